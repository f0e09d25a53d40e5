"""Features as MXNet's indexed RecordIO: ``<subset>.rec`` and ``<subset>.idx``, readable without headstart.

A record is ``IRHeader(flag=0, label=<class>, id=<index>, id2=<first 8 bytes of the image's SHA-256, big-endian>)``
and the feature vector: little-endian, shape (dim,), the dtype that ``features.json`` names.
"""

import os

import numpy as np

from stages.errors import InputError
from stages.mx import mx
from stages.paths import FEATURES, read_json, replacing

ABOUT = FEATURES / "features.json"


def write(subset, records):
    """Writes ``data/features/<subset>.rec`` and ``.idx``.

    records: iterable of (list row, SHA-256 digest of the image as bytes, feature vector), in row order.
    Both files appear only when whole.
    """
    rec_path, idx_path = (FEATURES / f"{subset}.{kind}" for kind in ("rec", "idx"))
    with replacing(idx_path) as idx, replacing(rec_path) as rec:
        file = mx.recordio.MXIndexedRecordIO(str(idx), str(rec), "w")
        for row, digest, feature in records:
            header = mx.recordio.IRHeader(0, row.label, row.index, int.from_bytes(digest[:8], "big"))
            file.write_idx(row.index, mx.recordio.pack(header, feature.tobytes()))
        size = file.tell()
        file.close()
        # MXNet does not notice a disk that fills up while it closes the file.
        if os.path.getsize(rec) != size:
            raise InputError(f"{rec_path} could not be written whole ({size} bytes): is the disk full?")


def read(subset):
    """Reads a subset's records: returns features (n, dim) of the stored dtype, labels (n,) int64, in row order.

    Raises InputError where the files do not fit together.
    """
    about = read_json(ABOUT)
    dtype, dim = np.dtype(about["dtype"]).newbyteorder("<"), about["dim"]
    rec_path, idx_path = (FEATURES / f"{subset}.{kind}" for kind in ("rec", "idx"))
    with open(idx_path, encoding="ascii") as lines:
        count = sum(1 for _ in lines)
    features = np.empty((count, dim), dtype)
    labels = np.empty(count, np.int64)
    file = mx.recordio.MXRecordIO(str(rec_path), "r")
    for row in range(count):
        record = file.read()
        if record is None:
            raise InputError(f"{rec_path} ends after {row} of {count} records: run `dvc repro -f featurize`")
        header, payload = mx.recordio.unpack(record)
        if len(payload) != dim * dtype.itemsize:
            raise InputError(f"{rec_path}, record {row}: {len(payload)} bytes are not {dim} {dtype.name} numbers")
        features[row] = np.frombuffer(payload, dtype)
        labels[row] = int(header.label)
    file.close()
    return features, labels
