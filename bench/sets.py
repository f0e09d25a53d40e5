"""Small data sets for the accuracy of heads, and their features by the pipeline."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bench.precision import write_patches
from bench.project import set_params
from stages import featurize, images, split, weights
from stages.common.caches.folders import CACHE_VARIABLE
from stages.common.settings import layout, params
from stages.features.stored import records

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# Fonts of symbols, or of what should be drawn where a letter is missing.
NO_LETTERS = ("Display", "LastResort", "STIXSiz", "STIXNonUni", "cmex", "cmsy", "cmmi")


class Set(NamedTuple):
    """A data set; features: (n, dim), labels: (n,)."""

    name: str
    features: NDArray[Any]
    labels: NDArray[np.int64]


def sets() -> Iterator[Set]:
    """Yields digits, patches of scikit-image's pictures, few of both, and letters in matplotlib's fonts."""
    with tempfile.TemporaryDirectory() as patches, tempfile.TemporaryDirectory() as letters:
        write_patches(Path(patches))
        write_letters(Path(letters))
        for name, dataset, few in (
            ("digits", {"name": "digits"}, 25),
            ("patches", {"name": "folder", "path": patches}, 12),
            ("letters", {"name": "folder", "path": letters}, None),
        ):
            whole = Set(name, *features(dataset))
            yield whole
            if few:
                yield fewer(whole, few)


def write_letters(folder: Path) -> None:
    """Writes ``<folder>/<letter>/<font>.png``: letters and numbers, somewhat turned and moved."""
    import matplotlib

    random = np.random.default_rng(0)
    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts/ttf").glob("*.ttf"))
    fonts = [font for font in fonts if not any(word in font.name for word in NO_LETTERS)]
    for letter in LETTERS:
        place = folder / f"{ord(letter)}"
        place.mkdir()
        for font in fonts:
            image = Image.new("L", (48, 48), 255)
            drawn = ImageFont.truetype(str(font), 34)
            ImageDraw.Draw(image).text((24, 24), letter, font=drawn, fill=0, anchor="mm")
            angle, (x, y) = random.uniform(-15, 15), random.integers(-4, 5, 2).tolist()
            turned = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=255, translate=(x, y))
            turned.convert("RGB").save(place / f"{font.stem}.png")


def features(dataset: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The features and labels of all images; dataset: changes to that section of the params."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ[CACHE_VARIABLE] = "off"
        try:
            set_params(Path(params.FILE), dataset=dataset)
            for stage in (images, split, weights, featurize):
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    stage.main()
            read = [records.read(subset) for subset in layout.SUBSETS]
        finally:
            os.chdir(before)
    parts = zip(*read)
    return np.concatenate(next(parts)), np.concatenate(next(parts))


def fewer(whole: Set, per_class: int) -> Set:
    """``per_class`` images of each class of ``whole``."""
    random = np.random.default_rng(5)
    kept = [random.permutation(np.flatnonzero(whole.labels == label))[:per_class] for label in np.unique(whole.labels)]
    rows = np.sort(np.concatenate(kept))
    return Set(f"{whole.name}, {per_class} of a class", whole.features[rows], whole.labels[rows])


def splits(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], ...]:
    """The rows of train, valid and test: 55, 20 and 25 % of each class."""
    random = np.random.default_rng(1000 + seed)
    parts: list[list[NDArray[np.int64]]] = [[], [], []]
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        ends = [round(0.55 * len(rows)), round(0.75 * len(rows))]
        for part, own in zip(parts, np.split(rows, ends)):
            part.append(own)
    return tuple(np.concatenate(part) for part in parts)
