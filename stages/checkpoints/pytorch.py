"""PyTorch's files (``torch.save`` of a state dict, or of a training checkpoint around one), in both containers.

Each holds a pickle of the state dict (see ``pickles``), and the bytes of the storages behind its tensors.
"""

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbones.files.binary import ACCEPTED, Cursor, Refused, Tensors, values, width
from stages.checkpoints.pickles import Tensor, unpickle

ZIP = b"PK\x03\x04"
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def recognises(data: bytes) -> bool:
    """Whether ``data`` begins as such a file does; other archives and pickles do too."""
    return data[:4] == ZIP or data[:2] in PICKLES


def read(data: bytes) -> Tensors:
    """The tensors of the state dict by name."""
    return _read_zip(data) if data[:4] == ZIP else _read_legacy(data)


def _read_legacy(data: bytes) -> Tensors:
    """The container before PyTorch 1.6: four pickles (magic, protocol, system, object), then the storages."""
    stream = io.BytesIO(data)
    if unpickle(stream)[0] != LEGACY_MAGIC:
        raise Refused(f"is a pickle, but not one that PyTorch wrote: {ACCEPTED}")
    for _ in ("protocol", "system"):
        unpickle(stream)
    value, storages = unpickle(stream)
    keys, _ = unpickle(stream)
    cursor = Cursor(data, at=stream.tell())
    numbers = {}
    for key in keys:
        if cursor.numbers("q") != (storages[key].length,):
            raise ValueError(f"storage {key} has another length")
        dtype = storages[key].dtype
        # Little-endian on every machine.
        numbers[key] = values(cursor.take(storages[key].length * width(dtype)), dtype)
    return _state_dict(value, numbers)


def _read_zip(data: bytes) -> Tensors:
    """The container since PyTorch 1.6: NAME/data.pkl, NAME/data/KEY for every storage, NAME/byteorder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # PyTorch stores tensors uncompressed, so no entry is larger than the file.
        entries = {entry.filename: entry for entry in archive.infolist() if entry.compress_type == zipfile.ZIP_STORED}
        pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise Refused(f"is a zip archive, but not one that PyTorch wrote: {ACCEPTED}")
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise ValueError("entries larger than the archive")
        root = pickles[0][: -len("data.pkl")]
        value, storages = unpickle(io.BytesIO(archive.read(entries[pickles[0]])))
        big = f"{root}byteorder" in entries and archive.read(entries[f"{root}byteorder"]) == b"big"
        numbers = {}
        for key, storage in storages.items():
            raw = archive.read(entries[f"{root}data/{key}"])
            if len(raw) != storage.length * width(storage.dtype):
                raise ValueError(f"storage {key} has another length")
            numbers[key] = values(raw, storage.dtype, ">" if big else "<")
    return _state_dict(value, numbers)


def _state_dict(value: Any, storages: dict[str, NDArray[Any]]) -> Tensors:
    """The arrays in an unpickled ``value``: those of its state dict, where it is a training checkpoint around one."""
    for key in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict):
        return {}
    return {
        name: _array(tensor, storages[tensor.storage.key])
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }


def _array(tensor: Tensor, numbers: NDArray[Any]) -> NDArray[Any]:
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.ndarray(tensor.shape, numbers.dtype, numbers, tensor.offset * numbers.itemsize, strides)
