"""What ``featurize`` leaves: the records, and as JSON what they are and what they cost.

Features are in MXNet's indexed RecordIO, ``<subset>.rec`` and ``<subset>.idx``, readable without headstart. A record is
``IRHeader(flag=0, label=<class>, id=<index>, id2=<first 8 bytes of the image's SHA-256, big-endian>)`` and the feature
vector: little-endian, shape (dim,), the dtype that ``features.json`` names.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from stages.common.disk import sums
from stages.common.disk.documents import Document
from stages.common.disk.files import replacing
from stages.common.settings.layout import FEATURES
from stages.dataset.lists import Row
from stages.features.stored import recordio
from stages.features.stored.mapped import mapped_array
from stages.features.stored.recipe import Recipe

ABOUT, WORK = FEATURES / "features.json", FEATURES / "work.json"
REMEDY = "run `dvc repro -f featurize`"
MEMORY_SHARE = 0.25

Features = NDArray[Any]  # (n, dim), of any float dtype


class FeaturesInfo(Document):
    """features.json.

    backbone to calibration: see :class:`Recipe`. dim, dtype: length and type of a feature.
    fingerprint: of all that determines a feature (see ``identity``), in hexadecimal. cpu: the instruction set that the
    driver's CPU had for it (see ``backend.cpu.best``). classes: their names by label.
    """

    backbone: str
    cut: str
    resize: str
    precision: str
    weights: str
    calibration: str
    dim: int
    dtype: Literal["float16", "float32"]
    fingerprint: str
    cpu: str
    classes: list[str]

    @property
    def recipe(self) -> Recipe:
        """What the features were made by."""
        return Recipe(self.backbone, self.cut, self.resize, self.precision, self.weights, self.calibration)


class Work(Document):
    """work.json: what it took to make the features.

    forward_passes: how many images went through the network; reused: how many did not need to.
    seconds: how long all of it took. workers, nodes: how many of them, and of machines, were at work.
    shipped: images that the driver read for them. seconds_decode and seconds_forward add up the workers' own time.
    """

    forward_passes: int
    reused: int
    seconds: float
    workers: int
    nodes: int
    shipped: int
    seconds_read: float
    seconds_cache: float
    seconds_decode: float
    seconds_forward: float

    @property
    def images(self) -> int:
        """How many there are."""
        return self.forward_passes + self.reused


def write(subset: str, rows: Sequence[Row], digests: Sequence[bytes], features: Features) -> None:
    """Writes ``data/features/<subset>.rec`` and ``.idx``, and beside them their digests and that of ``features.json``.

    rows: of the list; digests: SHA-256 of the images; features: (n, dim), of the dtype in ``features.json``, which is
    there already. Both files appear only when whole. Raises OSError where the disk is full.
    """
    rec_path, idx_path, _ = together = _together(subset)
    hashes = np.frombuffer(b"".join(digest[:8] for digest in digests), ">u8").astype("<u8")
    with replacing(idx_path) as idx, replacing(rec_path) as rec:
        recordio.write(rec, idx, [row.index for row in rows], [row.label for row in rows], hashes, features)
    sums.write(together)


def read(subset: str) -> tuple[Features, NDArray[np.int64]]:
    """Reads a subset's records: returns features (n, dim) of the stored dtype and labels (n,), in row order.

    Features that would take more than ``MEMORY_SHARE`` of the free memory stay on disk, mapped.
    Raises InputError where the files are not as they were written, or not together.
    """
    count, about = checked(subset)
    dtype, dim = _dtype(about), about.dim
    large = count * dim * dtype.itemsize > MEMORY_SHARE * psutil.virtual_memory().available
    features = mapped_array(dtype, (count, dim), FEATURES) if large else np.empty((count, dim), dtype)
    labels, row = np.empty(count, np.int64), 0
    for block in _blocks(subset, about):
        features[row : row + len(block)], labels[row : row + len(block)] = block["feature"], block["label"]
        row += len(block)
    return features, labels


def read_digests(subset: str) -> Iterator[tuple[list[bytes], Features]]:
    """The records of a subset, some at a time: the first 8 bytes of each image's SHA-256; features (n, dim).

    Raises InputError as :func:`read` does.
    """
    _, about = checked(subset)
    for block in _blocks(subset, about):
        yield [int(number).to_bytes(8, "big") for number in block["id2"]], block["feature"]


def checked(subset: str) -> tuple[int, FeaturesInfo]:
    """How many records a subset has, and of what. Raises InputError as :func:`read` does."""
    together = _together(subset)
    sums.check(together, REMEDY)
    with open(together[1], "rb") as lines:
        return sum(1 for _ in lines), FeaturesInfo.load(ABOUT, REMEDY)


def _dtype(about: FeaturesInfo) -> np.dtype[Any]:
    return np.dtype(about.dtype).newbyteorder("<")


def _blocks(subset: str, about: FeaturesInfo) -> Iterator[NDArray[Any]]:
    return recordio.read(FEATURES / f"{subset}.rec", _dtype(about), about.dim)


def _together(subset: str) -> list[Path]:
    """The files of a subset and what says how to read them: only together do they mean something."""
    return [FEATURES / f"{subset}.rec", FEATURES / f"{subset}.idx", ABOUT]
