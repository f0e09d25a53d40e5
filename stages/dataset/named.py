"""Which files are meant by names on a command line."""

import os
from collections.abc import Callable, Iterable, Iterator

from stages.common.errors import InputError


def files(names: Iterable[str], listed: Iterable[bytes], complain: Callable[[str, InputError], None]) -> Iterator[str]:
    """Yields the path of every file that ``names`` stand for, in order: files, folders, and "-" for those ``listed``.

    Folders are walked in the order of the names in them; hidden files and folders are passed over.
    listed: names of files and folders, one per line. complain(path, error): called for what is neither, or cannot be
    read.
    """
    for name in names:
        if name == "-":
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in listed)
            yield from files((line for line in lines if line not in ("", "-")), (), complain)
        elif os.path.isdir(name):
            yield from _walk(name, complain)
        elif os.path.isfile(name):
            yield name
        else:
            complain(name, InputError(f"{name} {_why(name)}"))


def _why(name: str) -> str:
    """What is wrong with the name of neither a file nor a folder."""
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in it
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "is not a file"


def _walk(top: str, complain: Callable[[str, InputError], None]) -> Iterator[str]:
    def failed(error: OSError) -> None:
        complain(error.filename, InputError(f"{error.filename} cannot be read ({error.strerror})"))

    for place, folders, names in os.walk(top, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(place, name)
            # Pipes, sockets and links to nowhere have nothing to be read.
            if not name.startswith(".") and os.path.isfile(path):
                yield path
