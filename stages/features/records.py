"""What ``featurize`` leaves: the records, and as JSON what they are and what they cost.

Features are in MXNet's indexed RecordIO, ``<subset>.rec`` and ``<subset>.idx``, readable without headstart. A record is
``IRHeader(flag=0, label=<class>, id=<index>, id2=<first 8 bytes of the image's SHA-256, big-endian>)`` and the feature
vector: little-endian, shape (dim,), the dtype that ``features.json`` names.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from stages.backend.mx import mx
from stages.common.documents import Document
from stages.common.errors import InputError
from stages.common.files import mapped_array, replacing
from stages.common.layout import FEATURES
from stages.dataset.lists import Row
from stages.features.recipe import Recipe

ABOUT, WORK = FEATURES / "features.json", FEATURES / "work.json"
MEMORY_SHARE = 0.25


class FeaturesInfo(Document):
    """features.json.

    backbone to calibration: see :class:`Recipe`. dim, dtype: length and type of a feature.
    fingerprint: of all that determines a feature (see ``identity``), in hexadecimal. classes: their names by label.
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
    classes: list[str]

    @property
    def recipe(self) -> Recipe:
        """What the features were made by."""
        return Recipe(self.backbone, self.cut, self.resize, self.precision, self.weights, self.calibration)


class FeaturizeMetrics(Document):
    """metrics/timing/featurize.json.

    featurize_seconds: how long all of it took. forward_passes: how many images went through the network; reused: how many did
    not need to.
    """

    featurize_seconds: float
    images_per_second: float
    forward_passes: int
    reused: int


class FeaturizeWork(Document):
    """data/features/work.json: what the report tells beside the metrics.

    workers, nodes: how many of them, and of machines, were at work.
    seconds_decode and seconds_forward add up the workers' own time.
    """

    workers: int
    nodes: int
    seconds_read: float
    seconds_cache: float
    seconds_decode: float
    seconds_forward: float


def write(subset: str, records: Iterable[tuple[Row, bytes, NDArray[Any]]]) -> None:
    """Writes ``data/features/<subset>.rec`` and ``.idx``.

    records: (list row, SHA-256 digest of the image, feature vector), in row order.
    Both files appear only when whole. Raises InputError where the disk is full.
    """
    rec_path, idx_path = (FEATURES / f"{subset}.{kind}" for kind in ("rec", "idx"))
    with replacing(idx_path) as idx, replacing(rec_path) as rec:
        file = mx.recordio.MXIndexedRecordIO(str(idx), str(rec), "w")
        try:
            for row, digest, feature in records:
                header = mx.recordio.IRHeader(0, row.label, row.index, int.from_bytes(digest[:8], "big"))
                file.write_idx(row.index, mx.recordio.pack(header, feature.tobytes()))
            size = file.tell()
            file.close()
            # MXNet does not notice a disk that fills up while it closes the file.
            whole = os.path.getsize(rec) == size
        except mx.base.MXNetError:
            whole = False
        if not whole:
            raise InputError(f"{rec_path} could not be written whole: is the disk full?")


def read(subset: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Reads a subset's records: returns features (n, dim) of the stored dtype and labels (n,), in row order.

    Features that would take more than ``MEMORY_SHARE`` of the free memory stay on disk, mapped.
    Raises InputError where the files do not fit together.
    """
    about = FeaturesInfo.load(ABOUT, "run `dvc repro -f featurize`")
    dtype, dim = np.dtype(about.dtype).newbyteorder("<"), about.dim
    rec_path, idx_path = (FEATURES / f"{subset}.{kind}" for kind in ("rec", "idx"))
    with open(idx_path, "rb") as lines:
        count = sum(1 for _ in lines)
    large = count * dim * dtype.itemsize > MEMORY_SHARE * psutil.virtual_memory().available
    features = mapped_array(dtype, (count, dim), FEATURES) if large else np.empty((count, dim), dtype)
    labels = np.empty(count, np.int64)
    found = 0
    for header, payload in _unpacked(rec_path):
        if len(payload) != dim * dtype.itemsize:
            raise InputError(f"{rec_path}, record {found}: {len(payload)} bytes are not {dim} {dtype.name} numbers")
        if found < count:
            features[found] = np.frombuffer(payload, dtype)
            labels[found] = int(header.label)
        found += 1
    if found != count:
        raise InputError(f"{rec_path} holds {found} records, {idx_path.name} {count}: run `dvc repro -f featurize`")
    return features, labels


def _unpacked(path: Path) -> Iterator[tuple[Any, bytes]]:
    """Yields (IRHeader, payload) for every record of the file at ``path``."""
    file = mx.recordio.MXRecordIO(str(path), "r")
    row = 0
    while True:
        try:
            record = file.read()
            if record is None:
                break
            unpacked = mx.recordio.unpack(record)
        except (mx.base.MXNetError, struct.error):
            raise InputError(f"{path} is damaged at record {row}: run `dvc repro -f featurize`") from None
        yield unpacked
        row += 1
    file.close()
