"""What each precision costs in accuracy: ``python -m bench.precision``.

The whole pipeline, in this process, on the digits and on patches of scikit-image's photographs and textures, where
the class of a patch is the picture it is from; patches of one picture do not overlap.
"""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from bench.table import Row
from stages import evaluate, featurize, images, split, train, weights
from stages.common import files, layout, params
from stages.features.store import VARIABLE

PICTURES = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
            "immunohistochemistry", "moon", "page", "retina", "rocket", "text")  # fmt: skip
SIDE, PATCHES = 48, 60
PRECISIONS = ("float32", "bfloat16", "int8")
# How much of the accuracy int8 may cost.
COST = 0.005


def write_patches(folder):
    """Writes ``<folder>/<picture>/<n>.png``, at most ``PATCHES`` of each of the pictures that are installed."""
    import skimage.data

    random = np.random.default_rng(0)
    for name in PICTURES:
        # Some are not in the package; it would download them.
        try:
            picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        except (AttributeError, OSError, ValueError, ModuleNotFoundError):
            continue
        places = [
            (x, y) for x in range(0, picture.width - SIDE + 1, SIDE) for y in range(0, picture.height - SIDE + 1, SIDE)
        ]
        (Path(folder) / name).mkdir()
        for number, place in enumerate(random.permutation(places)[:PATCHES].tolist()):
            patch = picture.crop((*place, place[0] + SIDE, place[1] + SIDE))
            patch.save(Path(folder) / name / f"{number:02}.png")


def accuracies(dataset):
    """{precision: top-1 on the test images}; dataset: that section of the params."""
    given, before, found = yaml.safe_load(Path(params.FILE).read_text()), Path.cwd(), {}
    given["dataset"].update(dataset)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ[VARIABLE] = "off"
        try:
            for precision in PRECISIONS:
                given["featurize"]["precision"] = precision
                Path(params.FILE).write_text(yaml.safe_dump(given))
                stages = (images, split) if not found else ()
                for stage in (*stages, weights, featurize, train, evaluate):
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        stage.main()
                found[precision] = files.read_json(layout.METRICS / "test.json")["top1"]
        finally:
            os.chdir(before)
    return found


def rows():
    """Yields the rows of the table."""
    with tempfile.TemporaryDirectory() as patches:
        write_patches(patches)
        for name, dataset in (("digits", {"name": "digits"}), ("patches", {"name": "folder", "path": patches})):
            found = accuracies(dataset)
            exact = found["float32"]
            for precision in PRECISIONS[1:]:
                aim = (exact - COST) / exact if precision == "int8" else None
                what = f"{name}, top-1 with {precision} / float32"
                yield Row(what, found[precision], exact, "top-1", found[precision] / exact, aim)


def main():
    for row in rows():
        print(row)


if __name__ == "__main__":
    main()
