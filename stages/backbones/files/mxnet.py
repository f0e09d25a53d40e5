"""MXNet's parameter files (``net.save_parameters``, ``mx.nd.save``, ``net.export``).

u64 0x112, u64 0, u64 count, arrays, u64 count, names (u64 length, bytes). An array, from src/ndarray/ndarray.cc:
u32 magic, [i32 storage type], u32 ndim, ndim × i64, i32 device type, i32 device id, i32 dtype, values. The first
versions had no storage type, and the very first no magic either: it begins with ndim, and its sides are u32.
Read here and not by mx.nd.load, which allocates what a damaged file says; and written here and not by mx.nd.save, which
tells of a full disk as if MXNet were broken.
"""

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbones.files.binary import Cursor, Refused, Tensors, values, width

MAGIC = struct.pack("<Q", 0x112)
ARRAY_V1, ARRAY_V2, ARRAY_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
# Arrays in a file. Networks have a thousand; empty ones may take more memory than they take in a file.
MOST = 100_000
TYPES = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool", 12: "bfloat16",
}  # fmt: skip


def recognises(data: bytes) -> bool:
    """Whether ``data`` begins as such a file does."""
    return data[:8] == MAGIC


def read(data: bytes) -> Tensors:
    """The arrays by name, as views of ``data``."""
    cursor = Cursor(data, at=16)
    arrays = [_array(cursor) for _ in range(_count(cursor))]
    names = [bytes(cursor.take(*cursor.numbers("Q"))).decode() for _ in range(_count(cursor))]
    if arrays and not names:
        raise Refused("is a list of arrays without names: save it with `net.save_parameters(path)`")
    if len(arrays) != len(names):
        raise ValueError(f"{len(arrays)} arrays, {len(names)} names")
    # `net.export` marks parameters and running statistics.
    return {re.sub("^(arg|aux):", "", name): array for name, array in zip(names, arrays)}


def write(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Writes ``tensors`` by name to ``path``, the bytes that ``mx.nd.save`` writes. Raises OSError."""
    numbers = {name: number for number, name in TYPES.items()}
    with open(path, "wb") as file:
        file.write(MAGIC + struct.pack("<QQ", 0, len(tensors)))
        for array in tensors.values():
            shape = struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
            # Dense, on the CPU.
            file.write(struct.pack("<Ii", ARRAY_V2, 0) + shape + struct.pack("<iii", 1, 0, numbers[array.dtype.name]))
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        file.write(struct.pack("<Q", len(tensors)))
        for name in map(str.encode, tensors):
            file.write(struct.pack("<Q", len(name)) + name)


def _count(cursor: Cursor) -> int:
    (count,) = cursor.numbers("Q")
    if count > MOST:
        raise ValueError(f"{count} arrays")
    return count


def _array(cursor: Cursor) -> NDArray[Any]:
    (magic,) = cursor.numbers("I")
    if magic in (ARRAY_V2, ARRAY_V3) and cursor.numbers("i") != (0,):
        raise Refused("holds sparse arrays: only dense ones are read")
    versioned = magic in (ARRAY_V1, ARRAY_V2, ARRAY_V3)
    (ndim,) = cursor.numbers("I") if versioned else (magic,)
    if not 0 < ndim <= 32:
        raise ValueError(f"{ndim} dimensions")
    shape = cursor.numbers(f"{ndim}{'q' if versioned else 'I'}")
    _, _, flag = cursor.numbers("iii")
    dtype = TYPES[flag]
    return values(cursor.take(math.prod(shape) * width(dtype)), dtype).reshape(shape)
