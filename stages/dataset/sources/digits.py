"""The digits that scikit-learn brings: 1,797 handwritten ones, 8×8 grey levels, ten classes."""

import importlib.util
from pathlib import Path
from typing import Optional

from PIL import Image

from stages.common.caches.folders import user_cache
from stages.common.disk.files import one_at_a_time, replacing
from stages.common.errors import InputError
from stages.common.settings.params import Dataset
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import Place
from stages.dataset.sources.source import Listed, Listing, Source

CLASSES = [str(digit) for digit in range(10)]
COUNT = 1797


def root(chosen: Dataset) -> str:
    """They lie as PNG files in the user's cache folder, once for all workspaces."""
    return str(user_cache() / "digits")


def missing(chosen: Dataset) -> Optional[str]:
    return None


def find(chosen: Dataset, index: Index) -> Listing:
    """Lists the digits, and writes them where they are not there yet: ``<digit>/<number>.png``."""
    folder = Path(root(chosen))
    if len(_files(folder)) != COUNT:
        with one_at_a_time(folder):
            if len(_files(folder)) != COUNT:  # another run may have had the lock
                with replacing(folder, folder=True) as destination:
                    _write(destination)
    images = [Listed(f"{path.parent.name}/{path.name}", path.parent.name, Place(str(path))) for path in _files(folder)]
    return Listing(CLASSES, images)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]/*.png"))


def _write(destination: Path) -> None:
    import numpy as np  # once for all: a look at what is there does without it

    for name in CLASSES:
        (destination / name).mkdir()
    for number, row in enumerate(np.loadtxt(_table(), delimiter=",")):
        # Grey levels are 0 to 16; the last number is the digit.
        grey = np.round(row[:-1].reshape(8, 8) * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(destination / CLASSES[int(row[-1])] / f"{number:04}.png")


def _table() -> Path:
    # Found, not imported: to import scikit-learn takes longer than all the rest.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise InputError("scikit-learn, which brings the digits, is not installed: run `make setup`")
    return Path(package.origin).parent / "datasets/data/digits.csv.gz"


def title(chosen: Dataset) -> str:
    return "digits"


SOURCE = Source(root, missing, find, title, ["groups"])
