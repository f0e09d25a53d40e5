"""What each precision costs in accuracy: ``python -m bench.precision``.

The whole pipeline, in this process, on the digits and on patches of scikit-image's photographs and textures, where
the class of a patch is the picture it is from; patches of one picture do not overlap. Means over several splits.
"""

import contextlib
import io
import itertools
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from bench.prepare import computable
from bench.project import set_params
from bench.table import Row
from stages import audit, evaluate, featurize, images, split, train, weights
from stages.classifier.scores import TestMetrics
from stages.common.caches.folders import CACHE_VARIABLE
from stages.common.settings import layout, params

PICTURES = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
            "immunohistochemistry", "moon", "page", "retina", "rocket", "text")  # fmt: skip
SIDE, PATCHES = 48, 60
PRECISIONS = ("float32", "bfloat16", "int8")
# How much of the accuracy int8 may cost.
COST = 0.005
SEEDS = range(5)


def installed() -> Iterator[tuple[str, Image.Image]]:
    """Those of ``PICTURES`` that are in scikit-image's package, with their names."""
    import skimage.data

    for name in PICTURES:
        # It would download the others.
        try:
            yield name, Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        except (AttributeError, OSError, ValueError, ModuleNotFoundError):
            continue


def write_patches(folder: Path) -> None:
    """Writes ``<folder>/<picture>/<n>.png``, at most ``PATCHES`` of each of the pictures that are installed."""
    random = np.random.default_rng(0)
    for name, picture in installed():
        places = [
            (x, y) for x in range(0, picture.width - SIDE + 1, SIDE) for y in range(0, picture.height - SIDE + 1, SIDE)
        ]
        (folder / name).mkdir()
        for number, (x, y) in enumerate(random.permutation(places)[:PATCHES].tolist()):
            picture.crop((x, y, x + SIDE, y + SIDE)).save(folder / name / f"{number:02}.png")


def accuracies(dataset: dict[str, Any]) -> dict[str, float]:
    """{precision: top-1 on the test images}, mean over ``SEEDS``, of what this machine computes.

    dataset: changes to that section of the params.
    """
    before = Path.cwd()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ[CACHE_VARIABLE] = str(Path(folder) / "cache")
        try:
            for precision, seed in itertools.product(filter(computable, PRECISIONS), SEEDS):
                sections = {"dataset": dataset, "featurize": {"precision": precision}, "split": {"seed": seed}}
                set_params(Path(params.FILE), audit={"enabled": False}, **sections)
                _run(*(() if found else (images, weights)), split, featurize, audit, train, evaluate)
                found.setdefault(precision, []).append(TestMetrics.load(layout.METRICS / "test.json").top1)
        finally:
            os.chdir(before)
    return {precision: statistics.mean(each) for precision, each in found.items()}


def _run(*stages: ModuleType) -> None:
    for stage in stages:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            stage.main()


def rows() -> Iterator[Row]:
    """Yields the rows of the table."""
    with tempfile.TemporaryDirectory() as patches:
        write_patches(Path(patches))
        for name, dataset in (("digits", {"name": "digits"}), ("patches", {"name": "folder", "path": patches})):
            found = accuracies(dataset)
            exact = found["float32"]
            for precision in list(found)[1:]:
                aim = (exact - COST) / exact if precision == "int8" else None
                what = f"{name}, top-1 with {precision} / float32"
                yield Row(what, found[precision], exact, "top-1", found[precision] / exact, aim)


def main() -> None:
    for row in rows():
        print(row)


if __name__ == "__main__":
    main()
