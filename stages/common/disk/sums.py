"""Digests beside the files they are of, as ``sha256sum`` writes and checks them: damage is found when a file is read.

Those of ``a.rec`` and what belongs to it are in ``a.sha256``, a line for each file.
"""

from collections.abc import Sequence
from pathlib import Path

from stages.common.disk.files import regular, replacing, sha256
from stages.common.errors import InputError


def write(files: Sequence[Path]) -> None:
    """Records the SHA-256 of each of ``files``, which lie in one folder, beside the first of them."""
    with replacing(_beside(files), unless_same=True) as temporary:
        temporary.write_text("".join(map(_line, files)), encoding="utf-8")


def check(files: Sequence[Path], remedy: str = "run `dvc repro`") -> None:
    """Reads ``files`` through; they must be as they were when :func:`write` was given the same ones.

    Raises InputError, with ``remedy`` for what to do, where one is missing, cannot be read, is damaged or another one.
    """
    path = _beside(files)
    try:
        found = [_line(file).encode() for file in files]
        with regular(path) as sums:
            recorded = sums.readlines()
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is missing: {remedy}") from None
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror})") from None
    if len(recorded) != len(found):
        raise InputError(f"{path} is damaged or of another run: {remedy}")
    for file, line, now in zip(files, recorded, found):
        if line != now:
            raise InputError(f"{file} is damaged or of another run (its SHA-256 is not that in {path.name}): {remedy}")


def _beside(files: Sequence[Path]) -> Path:
    """Where the digests of ``files`` are."""
    return files[0].with_suffix(".sha256")


def _line(file: Path) -> str:
    return f"{sha256(file)}  {file.name}\n"
