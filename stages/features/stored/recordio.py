"""MXNet's RecordIO for vectors of one length: many records at once, as an array, where MXNet takes one by one.

On disk a record is the number ``MAGIC``, the length of its data, the data (a header, then the vector), and padding to a
multiple of four bytes. Data that has ``MAGIC`` itself at a multiple of four bytes is split there: the number is left
out, and the upper three bits of each part's length say whether the part is the first, one between or the last. See
recordio.h of dmlc-core for the format, and recordio.py of MXNet for the header.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0xCED7230A
WHOLE, FIRST, BETWEEN, LAST = 0, 1, 2, 3
LENGTH_BITS = 29
# Bytes before a record's data.
START = 8
# Records taken together.
BLOCK = 4096


def write(
    rec: Path,
    idx: Path,
    ids: Sequence[int],
    labels: Sequence[int],
    hashes: "NDArray[np.uint64]",
    features: NDArray[Any],
) -> None:
    """Writes a record for each of ``features`` (n, dim) to ``rec``, and where they begin, by their ids, to ``idx``.

    ids, hashes: id and id2 of the records' headers. Raises OSError.
    """
    form, position = _form(features.dtype, features.shape[1]), 0
    with open(rec, "wb") as data, open(idx, "w", encoding="ascii") as index:
        for start in range(0, len(features), BLOCK):
            some = slice(start, start + BLOCK)
            block = np.zeros(len(features[some]), form)
            block["magic"], block["length"] = MAGIC, _length(form)
            block["id"], block["label"] = ids[some], labels[some]
            block["id2"], block["feature"] = hashes[some], features[some]
            for key, record in zip(ids[some], pieces := _pieces(block)):
                index.write(f"{key}\t{position}\n")
                position += len(record)
            data.write(b"".join(pieces))


def read(rec: Path, dtype: "np.dtype[Any]", dim: int) -> "Iterator[NDArray[Any]]":
    """The records in ``rec``, some at a time: arrays with the fields label, id, id2, and feature (dim,) of ``dtype``.

    Raises ValueError where the file holds anything else.
    """
    form = _form(dtype, dim)
    data = np.memmap(rec, np.uint8, "r") if rec.stat().st_size else np.empty(0, np.uint8)
    position = 0
    while position < len(data):
        count = min(BLOCK, (len(data) - position) // form.itemsize)
        block = data[position : position + count * form.itemsize].view(form)
        whole = (block["magic"] == MAGIC) & (block["length"] == _length(form))
        block = block[: count if whole.all() else whole.argmin()]
        if not len(block):
            block, size = _joined(data[position : position + 2 * form.itemsize].tobytes(), form)
            position += size
        else:
            position += block.nbytes
        yield block


def _form(dtype: "np.dtype[Any]", dim: int) -> "np.dtype[Any]":
    """A record that is not split."""
    header = [("flag", "<u4"), ("label", "<f4"), ("id", "<u8"), ("id2", "<u8")]
    padding = -dim * dtype.itemsize % 4
    fields = [("magic", "<u4"), ("length", "<u4"), *header, ("feature", dtype, (dim,)), ("padding", "u1", (padding,))]
    return np.dtype(fields)


def _length(form: "np.dtype[Any]") -> int:
    """Bytes of data in a record."""
    return form.itemsize - START - form["padding"].itemsize


def _pieces(block: NDArray[Any]) -> list[bytes]:
    """Each of the records of ``block`` as it lies on disk."""
    data, size = block.tobytes(), block.itemsize
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    words = block.view("<u4").reshape(len(block), -1)[:, START // 4 :]
    for row in np.flatnonzero((words == MAGIC).any(axis=1)):
        pieces[row] = _split(pieces[row], _length(block.dtype))
    return pieces


def _split(record: bytes, length: int) -> bytes:
    """A whole record in the parts it has on disk, because ``MAGIC`` occurs in its data of ``length`` bytes."""
    data = record[START : START + length]
    words = np.frombuffer(data, "<u4", length // 4)
    begins = [0, *(4 * np.flatnonzero(words == MAGIC) + 4)]
    ends = [*(begin - 4 for begin in begins[1:]), length]
    flags = [FIRST, *[BETWEEN] * (len(begins) - 2), LAST]
    parts = [
        struct.pack("<II", MAGIC, flag << LENGTH_BITS | end - begin) + data[begin:end]
        for flag, begin, end in zip(flags, begins, ends)
    ]
    return b"".join(parts) + record[START + length :]


def _joined(data: bytes, form: "np.dtype[Any]") -> tuple[NDArray[Any], int]:
    """The split record that ``data`` begins with, as an array of one, and its bytes on disk."""
    parts: list[bytes] = []
    position, flag = 0, FIRST
    while flag != LAST:
        magic, length = struct.unpack("<II", data[position : position + START].ljust(START, b"\0"))
        flag, size = length >> LENGTH_BITS, length % (1 << LENGTH_BITS)
        if magic != MAGIC or flag not in ((BETWEEN, LAST) if parts else (FIRST,)):
            raise ValueError("no record begins here")
        begin = position + START
        parts.append(data[begin : begin + size])
        position = begin + size + -size % 4
    whole = struct.pack("<I", MAGIC).join(parts)
    record = struct.pack("<II", MAGIC, len(whole)) + whole
    return np.frombuffer(record.ljust(form.itemsize, b"\0"), form), position
