"""The digits that scikit-learn brings: 1,797 handwritten ones, 8×8 grey levels, ten classes."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from stages.common.errors import InputError
from stages.common.params import Dataset


def lay_out(chosen: Dataset, destination: Path) -> list[str]:
    """Writes the digits as PNG into ``<destination>/<digit>/``; returns the class names, "0" to "9"."""
    rows = np.loadtxt(_file(), delimiter=",")
    names = [str(digit) for digit in range(10)]
    for name in names:
        (destination / name).mkdir()
    for number, row in enumerate(rows):
        # Grey levels are 0 to 16; the last number is the digit.
        grey = np.round(row[:-1].reshape(8, 8) * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(destination / names[int(row[-1])] / f"{number:04}.png")
    print(f"digits: {len(rows)} images of {len(names)} classes")
    return names


def _file() -> Path:
    # Found, not imported: to import scikit-learn takes longer than all the rest.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise InputError("scikit-learn, which brings the digits, is not installed: run `make setup`")
    return Path(package.origin).parent / "datasets/data/digits.csv.gz"
