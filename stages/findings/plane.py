"""``data/map``: where some images lie on a plane, and small pictures of them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.common.disk import sums
from stages.common.disk.documents import Document
from stages.common.settings.layout import MAP
from stages.findings.sketches import SIDE

POINTS, TILES = MAP / "map.json", MAP / "tiles.webp"
# The plane is so wide and high.
SPAN = 1000
COLUMNS = 50
QUALITY = 50


class Map(Document):
    """map.json: of each point its image's path, the number of its class, and where it lies, from 0 to ``SPAN``.

    Its picture is a tile of tiles.webp, ``SIDE`` pixels wide: the n-th in rows of ``COLUMNS``.
    """

    paths: list[str]
    labels: list[int]
    x: list[int]
    y: list[int]


def write(found: Map, sketches: NDArray[np.uint8]) -> None:
    """Writes ``data/map``; sketches: of the points, uint8 (n, SIDE, SIDE, 3)."""
    MAP.mkdir(parents=True, exist_ok=True)
    found.save(POINTS)
    rows = max(1, -(-len(sketches) // COLUMNS))
    tiles = np.full((rows * COLUMNS, SIDE, SIDE, 3), 128, np.uint8)
    tiles[: len(sketches)] = sketches
    sheet = tiles.reshape(rows, COLUMNS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(rows * SIDE, COLUMNS * SIDE, 3)
    Image.fromarray(sheet).save(TILES, quality=QUALITY, method=4)
    sums.write([POINTS, TILES])


def write_none() -> None:
    """Writes a map of no images."""
    write(Map(paths=[], labels=[], x=[], y=[]), np.zeros((0, SIDE, SIDE, 3), np.uint8))


def load() -> tuple[Map, bytes]:
    """The map, and the bytes of its tiles. Raises InputError where they are not as :func:`write` left them."""
    sums.check([POINTS, TILES], "run `dvc repro -f audit`")
    return Map.load(POINTS), Path(TILES).read_bytes()
