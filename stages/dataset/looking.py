"""A look at images where they lie: what their bytes are, and whether they are images. Only what is new is read."""

import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple, Optional, Union

import PIL

from stages.common import processes
from stages.common.errors import InputError
from stages.common.progress import progress
from stages.dataset.sources.files import decode
from stages.dataset.sources.files.index import Entry, Index, Known, key_of
from stages.dataset.sources.files.places import Place, content, contents, opened
from stages.dataset.sources.files.stamps import Stamp, stamp_of
from stages.dataset.sources.files.stores import Failed, Unreadable, is_url

# Files asked of the index at once.
ASKED = 10_000
# Files that go to a process at a time; fewer are read without one.
CHUNK = 32
# Files read until the index keeps them, and so about how many a look that was broken off reads again.
KEPT = 1_000


class Seen(NamedTuple):
    """What is there. sha256: of the bytes, hexadecimal; size: how many; complaint: why they are no image, or None.

    A complaint lacks its subject: "is empty (0 bytes)". What cannot be read has the digest "" and no bytes.
    """

    sha256: str
    size: int
    complaint: Optional[str]


class Reading(NamedTuple):
    """What reading showed. stamp: of the file or object; None where there is none, or not one. begun: nanoseconds."""

    seen: Seen
    stamp: Optional[Stamp]
    begun: int


def look(places: Sequence[Place], index: Index, versions: Mapping[str, Stamp] = MappingProxyType({})) -> list[Seen]:
    """What is at ``places``. What the index knows is not opened; all else is read and decoded, in parallel, once.

    versions: the stamps of objects in a store, by URL, as they were listed just now.
    """
    known = list(_known(places, index, versions))
    new = iter(_read_new([place for place, seen in zip(places, known) if seen is None], index, versions))
    return [seen or next(new) for seen in known]


def _known(places: Sequence[Place], index: Index, versions: Mapping[str, Stamp]) -> Iterator[Optional[Seen]]:
    """What the index knows of each of ``places``."""
    folders: dict[str, str] = {}
    for start in range(0, len(places), ASKED):
        some = places[start : start + ASKED]
        keys = [_key(place, folders) for place in some]
        stamps = {}
        for key, place in zip(keys, some):
            stamp = versions.get(place.path) if is_url(place.path) else _stamp(place.path)
            if stamp is not None:
                stamps[key] = stamp
        found = index.known(stamps)
        for key, place in zip(keys, some):
            known = found.get(key)
            if known is None or known.decoder != _decoder(known.complaint):
                yield None
            else:
                yield Seen(known.sha256, stamps[key].size if place.size is None else place.size, known.complaint)


def _stamp(path: str) -> Optional[Stamp]:
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):
        return None  # reading it will tell


def _read_new(places: Sequence[Place], index: Index, versions: Mapping[str, Stamp]) -> list[Seen]:
    """Reads ``places`` and has the index keep what that shows, also if it is broken off."""
    folders: dict[str, str] = {}
    seen: list[Seen] = []
    entries: list[Entry] = []
    try:
        for place, reading in zip(places, _readings(places, versions)):
            seen.append(reading.seen)
            if reading.stamp is not None:
                sha256, _, complaint = reading.seen
                known = Known(sha256, complaint, _decoder(complaint))
                entries.append(Entry(_key(place, folders), reading.stamp, reading.begun, known))
            if len(entries) == KEPT:
                index.keep(entries)
                entries = []
    finally:
        index.keep(entries)
    return seen


def _key(place: Place, folders: dict[str, str]) -> bytes:
    """What the index calls it. folders: links to folders that were resolved before."""
    key = key_of(place.path, folders)
    return key if place.size is None else b"%b\0%d %d" % (key, place.offset, place.size)


def _decoder(complaint: Optional[str]) -> str:
    """Who says so. What is an image stays one; another release of Pillow may read what this one does not."""
    here = f"{decode.VERSION}.{decode.STRICTNESS}"
    return here if complaint is None else f"{here}, Pillow {PIL.__version__}"


def _readings(places: Sequence[Place], versions: Mapping[str, Stamp]) -> Iterator[Reading]:
    batches = [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]
    stamps = [{place.path: versions[place.path] for place in batch if place.path in versions} for batch in batches]
    remote = any(is_url(place.path) for place in places)
    if len(batches) <= 1:
        yield from chain.from_iterable(map(read_batch, batches, stamps)) if remote else map(read, places)
        return
    # A process in which a library that fetches is at work is not to be forked.
    context = multiprocessing.get_context("spawn" if remote else None)
    pool = ProcessPoolExecutor(mp_context=context, initializer=processes.end_with_parent)
    try:
        with processes.starting():
            found = chain.from_iterable(pool.map(read_batch, batches, stamps))
        yield from progress(found, desc="checking images", total=len(places), leave=False)
    except BrokenProcessPool:
        raise InputError("a process that was reading images was killed, perhaps for want of memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def read_batch(places: Sequence[Place], versions: Mapping[str, Stamp]) -> list[Reading]:
    """Reads and decodes what is at ``places``. versions: of the objects among them, as :func:`look` was given them."""
    begun = time.time_ns()
    if not any(is_url(place.path) for place in places):
        return list(map(read, places))
    from stages.dataset.sources.files import remote

    found = contents(places)
    for place, data in zip(places, found):
        if isinstance(data, Failed) and data.passing:
            raise InputError(f"{place.name} {data}: run the same command again")
    now = remote.stamps(versions)
    readings = []
    for place, data in zip(places, found):
        stamp = versions.get(place.path)
        unchanged = stamp == now.get(place.path)
        readings.append(_reading(data, stamp if unchanged else None, begun) if is_url(place.path) else read(place))
    return readings


def read(place: Place) -> Reading:
    """Reads and decodes the file, or the piece of one."""
    begun = time.time_ns()
    try:
        with opened(place) as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            data = content(file, place)
            unchanged = stamp == stamp_of(os.fstat(file.fileno()))
    except Unreadable as error:
        return _reading(error, None, begun)
    return _reading(data, stamp if unchanged else None, begun)


def _reading(data: Union[bytes, Unreadable], stamp: Optional[Stamp], begun: int) -> Reading:
    """What was read, decoded; stamp: None where it is not sure to be of these bytes."""
    if isinstance(data, Unreadable):
        return Reading(Seen("", 0, str(data)), None, begun)
    complaint = None
    try:
        decode.decode(data, "")
    except InputError as error:
        complaint = str(error).strip()
    return Reading(Seen(hashlib.sha256(data).hexdigest(), len(data), complaint), stamp, begun)
