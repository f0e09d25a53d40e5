"""The features of some images as points on a plane: near each other where the features are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from stages.common.disk import sums
from stages.common.documents import Document
from stages.common.settings.layout import MAP
from stages.findings import tsne
from stages.findings.components import components
from stages.findings.neighbours import Features
from stages.findings.sketches import SIDE

POINTS, TILES = MAP / "map.json", MAP / "tiles.webp"
# Of more images, so many: t-SNE takes a second for them, and a page that shows them stays small.
MOST = 2_000
# The plane is so wide and high.
SPAN = 1000
# t-SNE starts from the first two components and goes by so many of them.
COMPONENTS, PERPLEXITY = 50, 30.0
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


def chosen(digests: Sequence[bytes]) -> NDArray[np.int64]:
    """The rows that the map shows, all or ``MOST``: by their digests, so that a new image changes one at most."""
    return np.sort(sorted(range(len(digests)), key=lambda row: (digests[row], row))[:MOST]).astype(np.int64)


def flat(features: Features) -> NDArray[np.int64]:
    """Where ``features`` (n, dim) lie on the plane: (n, 2). The same for the same features, on any number of cores."""
    if len(features) < 5:
        return np.stack([np.arange(len(features)) * SPAN // max(len(features) - 1, 1)] * 2, axis=1)
    centred = features.astype(np.float32)
    centred -= centred.mean(axis=0)
    # How several threads share a product changes its last bits.
    with threadpool_limits(1):
        reduced = centred @ components(centred, COMPONENTS)
    places = tsne.embed(reduced, min(PERPLEXITY, (len(features) - 1) / 3))
    low, wide = places.min(axis=0), (places.max(axis=0) - places.min(axis=0)).max()
    return np.asarray(((places - low) / (wide or 1) * SPAN).round(), np.int64)


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
