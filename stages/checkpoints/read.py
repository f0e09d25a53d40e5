"""A weights file of any known format as named numpy arrays."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from stages.backbones.files import mxnet
from stages.backbones.files.binary import ACCEPTED, Refused, Tensors
from stages.checkpoints import pytorch, safetensors
from stages.common.errors import InputError

# The formats, each as (whether bytes begin as its files do, its reader).
FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Tensors]], ...] = (
    (mxnet.recognises, mxnet.read),
    (pytorch.recognises, pytorch.read),
    (safetensors.recognises, safetensors.read),
)

# What the readers raise on bytes that are not what they should be.
_DAMAGE = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError, NotImplementedError, RuntimeError,
    struct.error, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip


def read(path: Path) -> Tensors:
    """Reads the weights file at ``path``: returns {name: array} in the file's order.

    The format is told by the content, not by the name. Arrays keep the file's shape and dtype, except that bfloat16,
    which numpy lacks, becomes float32; they may be read-only views of one buffer.
    Raises InputError for what is not there, not a weights file, damaged, or more than named tensors.
    """
    if not path.is_file():
        what = "a directory" if path.is_dir() else "not there"
        raise InputError(f"{path} is {what}: give a weights file; {ACCEPTED}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        tensors = _reader(data)(data)
    except Refused as error:
        raise InputError(f"{path} {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{path} is damaged or cut short: download or copy it again") from error
    if not tensors:
        raise InputError(f"{path} holds no named tensors: {ACCEPTED}")
    return tensors


def _reader(data: bytes) -> Callable[[bytes], Tensors]:
    for recognises, reader in FORMATS:
        if recognises(data):
            return reader
    if not data:
        raise Refused(f"is empty (0 bytes): {ACCEPTED}")
    raise Refused(f"is not a weights file (it begins with {data[:16]!r}): {ACCEPTED}")
