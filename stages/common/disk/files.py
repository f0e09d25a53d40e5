"""Files that appear whole or not at all, and tables in them."""

import contextlib
import csv
import errno
import fcntl
import filecmp
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Union

# What a text begins with that spreadsheets run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@contextlib.contextmanager
def replacing(path: Union[str, Path], folder: bool = False, unless_same: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it to ``path`` when the block ends without an error.

    unless_same: a file that already has this content stays, with its times: what goes by them need not read it again.

    After an error the temporary file is removed and ``path`` is as it was. One left by a killed process has the
    same name, so the next run overwrites it.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    _remove(temporary)
    (temporary if folder else temporary.parent).mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        # It remembers answers by size and time.
        filecmp.clear_cache()
        if unless_same and path.exists() and filecmp.cmp(temporary, path, shallow=False):
            _remove(temporary)
            return
        if folder:
            _remove(path)
        os.replace(temporary, path)
    except BaseException as error:
        # What fails in writing, as on a full disk, does not say where.
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Union[str, Path], text: str) -> None:
    """Writes ``text`` (UTF-8) to ``path`` at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table with a ``heading`` to ``path`` at once or not at all; see :func:`cell`."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heading, *(map(cell, row) for row in rows)])


def cell(value: object) -> object:
    """``value`` as it may stand in a CSV: before a text that a spreadsheet would run as a formula comes a "'".

    That is one which begins with =, +, -, @ or a control character (OWASP, CSV Injection).
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def uncell(text: str) -> str:
    """What :func:`cell` made ``text`` of."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Holds the lock on making ``path``, a file beside it; waits for another process that has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that is making {path}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def regular(path: Path) -> BinaryIO:
    """The file at ``path``, open for reading. Raises OSError, also for a pipe or a device: that may wait for ever."""
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(path, "rb")


def sha256(path: Path) -> str:
    """The SHA-256 of the file at ``path``, in hexadecimal."""
    digest = hashlib.sha256()
    with regular(path) as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
