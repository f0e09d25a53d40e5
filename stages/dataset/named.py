"""Which files are meant by names on a command line."""

import os
from collections.abc import Callable, Iterable, Iterator

from stages.common.errors import InputError


def files(names: Iterable[str], listed: Iterable[bytes], complain: Callable[[str, InputError], None]) -> Iterator[str]:
    """Yields the path of every file that ``names`` stand for, in order: files, folders, and "-" for those ``listed``.

    Folders are walked in the order of the names in them; hidden files and folders are passed over.
    listed: names of files and folders, one per line. complain(path, error): called for what is neither.
    """
    for name in names:
        if name == "-":
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in listed)
            yield from files((line for line in lines if line not in ("", "-")), (), complain)
        elif os.path.isdir(name):
            yield from _walk(name)
        elif os.path.isfile(name):
            yield name
        else:
            what = "is not a file" if os.path.exists(name) else "does not exist"
            complain(name, InputError(f"{name} {what}"))


def _walk(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(place, name)
            # Pipes, sockets and links to nowhere have nothing to be read.
            if not name.startswith(".") and os.path.isfile(path):
                yield path
