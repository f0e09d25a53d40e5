"""What the readers share: fields and numbers out of bytes, and how a file is refused."""

import struct
from typing import Any, Literal, Union

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
Bytes = Union[bytes, bytearray, memoryview]

ACCEPTED = "accepted are MXNet .params, PyTorch state dicts (.pth, .pt) and .safetensors"


class Refused(Exception):
    """A whole file of a known format that cannot be used; the message continues the sentence that the path begins."""


class Cursor:
    """Takes fields from bytes, one after the other; ValueError where fewer bytes are left than asked for."""

    def __init__(self, data: Bytes, at: int = 0) -> None:
        self.data, self.at = memoryview(data), at

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes."""
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError(f"{size} bytes wanted at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, form: str) -> tuple[int, ...]:
        """The next little-endian integers; form: as the module struct has it."""
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))


def values(raw: Bytes, dtype: str, order: Literal["<", ">"] = "<") -> NDArray[Any]:
    """The numbers in ``raw`` as a 1-D array; ``order`` is the byte order, bfloat16 becomes float32."""
    if dtype == "bfloat16":
        # The upper half of a float32.
        return (np.frombuffer(raw, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder(order))


def width(dtype: str) -> int:
    """The bytes that one number takes in a file."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
