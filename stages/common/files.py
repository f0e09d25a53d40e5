"""Files that appear whole or not at all, and arrays too large for memory."""

import contextlib
import csv
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np


@contextlib.contextmanager
def replacing(path: Union[str, Path], folder: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it to ``path`` when the block ends without an error.

    After an error the temporary file is removed and ``path`` is as it was. One left by a killed process has the
    same name, so the next run overwrites it.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    _remove(temporary)
    (temporary if folder else temporary.parent).mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        if folder:
            _remove(path)
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mapped_array(dtype: np.dtype[Any], shape: tuple[int, ...], folder: Path) -> "np.memmap[Any, np.dtype[Any]]":
    """An array in a file without a name in ``folder``, for what may not fit into memory; it goes with the process.

    Raises OSError where the disk is too small: now, not as a fault in mapped memory later.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * dtype.itemsize))
        return np.memmap(file, dtype, "r+", shape=shape)


def write_text(path: Union[str, Path], text: str) -> None:
    """Writes ``text`` (UTF-8) to ``path`` at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):  # type: ignore[no-untyped-def]
    """Writes ``value`` as indented JSON to ``path`` at once or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path):  # type: ignore[no-untyped-def]
    """Reads a JSON file that a stage wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table with a ``heading`` to ``path`` at once or not at all."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heading, *rows])


def sha256(path: Path) -> str:
    """The SHA-256 of the file at ``path``, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
