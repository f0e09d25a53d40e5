"""Tar archives that are read where they lie: what members they have, and where the bytes of each begin.

An archive is read through once; the index keeps what that showed for as long as the archive stays as it is.
"""

import json
import os
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, Optional, cast

from stages.common.errors import InputError
from stages.dataset.sources.files.index import Index, key_of
from stages.dataset.sources.files.places import Place, opened
from stages.dataset.sources.files.stamps import Stamp, stamp_of
from stages.dataset.sources.files.stores import Unreadable, is_url
from stages.dataset.sources.source import listable

# What a label is in, beside its image, and how many bytes that has at most.
LABELS = (".cls", ".txt", ".json")
LARGEST = 1 << 20


# What tarfile raises on headers that are not what they should be: numbers that are none, one that leads to itself.
_DAMAGE = (tarfile.TarError, ValueError, LookupError, TypeError, OverflowError, RecursionError)


class _Headers:
    """An archive, for tarfile to read its headers; it would take the memory for as long a name as one says it has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


class Member(NamedTuple):
    """A file in an archive. offset, size: of its bytes. label: what it says, if it is of ``LABELS`` and says one."""

    name: str
    offset: int
    size: int
    label: Optional[str]


def members(archive: str, index: Index, version: Optional[Stamp] = None) -> list[Member]:
    """The files in the tar at ``archive``, a path or URL, in their order; of files of one name the last is meant.

    version: of an object in a store, as it was listed just now.
    Raises InputError if the archive is damaged or cut short, or has a member that is a link, a device or sparse, lies
    outside of the archive's own folder, or has a name that no list can hold.
    """
    key = key_of(archive, {})
    stamp = version if is_url(archive) else _stamp(archive)
    known = None if stamp is None else index.members(key, stamp)
    if known is not None:
        return [Member(*fields) for fields in json.loads(zlib.decompress(known))]
    begun = time.time_ns()
    try:
        with _opened(archive, version) as file:
            headers = cast(BinaryIO, _Headers(file))
            with tarfile.open(fileobj=headers, mode="r:") as tar:
                found = _members(tar, file, archive)
    except Unreadable as error:
        raise InputError(f"{archive} {error}") from None
    except _DAMAGE as error:
        what = str(error)[:200]
        raise InputError(f"{archive} is damaged or no tar archive ({what}): delete it and fetch it again") from None
    if stamp is not None and stamp == _now(archive):
        index.keep_members(key, stamp, begun, zlib.compress(json.dumps(found).encode()))
    return found


@contextmanager
def _opened(archive: str, version: Optional[Stamp]) -> Iterator[BinaryIO]:
    if not is_url(archive):
        with opened(Place(archive)) as file:
            yield file
        return
    from stages.dataset.sources.files import remote

    if version is None or version.size < 0:
        raise Unreadable("cannot be read as an archive: its server does not say how large it is, or in which version")
    yield cast(BinaryIO, remote.File(archive, version.size))


def _stamp(path: str) -> Optional[Stamp]:
    try:
        return stamp_of(os.stat(path))
    except OSError:
        return None


def _now(archive: str) -> Optional[Stamp]:
    if not is_url(archive):
        return _stamp(archive)
    from stages.dataset.sources.files import remote

    return remote.stamps([archive]).get(archive)


def _members(tar: tarfile.TarFile, file: BinaryIO, archive: str) -> list[Member]:
    """The files, once all members are known to be plain files or folders inside of the archive."""
    found: dict[str, Member] = {}
    inside = tar.getmembers()
    # tarfile takes a header that is cut off or damaged for the end of the archive; the true end is a block of zeros.
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends too early")
    for member in inside:
        path = PurePosixPath(member.name)
        plain = member.isdir() or (member.isreg() and not member.issparse())
        if path.is_absolute() or ".." in path.parts or not plain or not listable(member.name):
            raise InputError(
                f"{archive} has the member {member.name[:300]!r}, which is a link, a device or sparse, lies outside of "
                "the archive's folder, or has a tab or line break in its name: fetch the archive again from where you "
                "trust it"
            )
        if member.isreg():
            label = None
            if path.suffix.lower() in LABELS and member.size <= LARGEST:
                file.seek(member.offset_data)
                label = _label(path.suffix.lower(), file.read(member.size))
            found[str(path)] = Member(member.name, member.offset_data, member.size, label)
    return list(found.values())


def _label(suffix: str, data: bytes) -> Optional[str]:
    """What a file beside an image says of its class."""
    try:
        text = data.decode()
        if suffix == ".json":
            value = json.loads(text)
            label = value.get("label") if isinstance(value, dict) else None
            text = "" if label is None or isinstance(label, (dict, list)) else str(label)
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None
    return text.strip() or None
