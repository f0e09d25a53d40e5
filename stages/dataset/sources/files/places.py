"""Where the bytes of an image are: a file, or a piece of an archive."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, Optional, Union

from stages.common.errors import InputError
from stages.dataset.sources.files.stores import Unreadable, is_url

ARCHIVE = ".tar"
FOLDER = "is a folder: images lie directly in their class's folder"
# Bytes of the largest file that is read as an image: twice what the most pixels take that are decoded, 24 bits each.
LARGEST = 1 << 30


class Place(NamedTuple):
    """The file at ``path``, or the object at that URL; or ``size`` bytes from ``offset`` of the archive there.

    member: what the archive calls these.
    """

    path: str
    offset: int = 0
    size: Optional[int] = None
    member: str = ""

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.path}/{self.member}" if self.member else self.path


def within(root: str, path: str, size: int, offset: Optional[int]) -> Place:
    """The place of an image that the manifest lists so, in the data set at ``root``."""
    if offset is None:
        # Only a list names images elsewhere.
        return Place(path if path.startswith("/") or is_url(path) else f"{root}/{path}")
    archive, _, member = path.partition(f"{ARCHIVE}/")
    return Place(f"{root}/{archive}{ARCHIVE}", offset, size, member)


@contextlib.contextmanager
def opened(place: Place) -> Iterator[BinaryIO]:
    """The file of ``place``, open where its bytes begin. Raises Unreadable, and so does what reads in the block."""
    try:
        # Other than regular files are not opened: that may wait for ever, or do something.
        kind = os.stat(place.path).st_mode
        if stat.S_ISDIR(kind):
            raise Unreadable(FOLDER)
        if not stat.S_ISREG(kind):
            raise Unreadable("is not a file but a pipe, a socket or a device")
        with open(place.path, "rb") as file:
            file.seek(place.offset)
            yield file
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None


def content(file: BinaryIO, place: Place) -> bytes:
    """The bytes at ``place``, from what :func:`opened` gave. Raises Unreadable where there are fewer, or too many."""
    size = os.fstat(file.fileno()).st_size if place.size is None else place.size
    if size > LARGEST:
        raise Unreadable(f"has {size:,} bytes, and no image has more than {LARGEST:,}")
    data = file.read(-1 if place.size is None else place.size)
    if place.size is not None and len(data) < place.size:
        raise Unreadable("is cut short")
    return data


def contents(places: Sequence[Place]) -> list[Union[bytes, Unreadable]]:
    """The bytes at each of ``places``, or why they cannot be had; objects in a store are fetched together."""
    found = [None if is_url(place.path) else _local(place) for place in places]
    if None in found:
        from stages.dataset.sources.files import remote

        pieces = [remote.Piece(place.path, place.offset, place.size) for place in places if is_url(place.path)]
        fetched = iter(remote.fetch(pieces))
        return [next(fetched) if data is None else data for data in found]
    return [data for data in found if data is not None]


def _local(place: Place) -> Union[bytes, Unreadable]:
    try:
        with opened(place) as file:
            return content(file, place)
    except Unreadable as error:
        return error


def read(place: Place) -> tuple[bytes, bytes]:
    """The bytes at ``place`` and their SHA-256 digest. Raises InputError where they cannot be read."""
    (data,) = contents([place])
    if isinstance(data, Unreadable):
        raise InputError(f"{place.name} {data}")
    return data, hashlib.sha256(data).digest()
