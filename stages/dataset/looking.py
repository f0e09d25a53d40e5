"""A look at images where they lie: what their bytes are, and whether they are images. Only what is new is read."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple, Optional

import PIL

from stages.common import collector, processes
from stages.common.errors import InputError
from stages.common.progress import progress
from stages.dataset import decode
from stages.dataset.index import Entry, Index, Known, Stamp, stamp_of
from stages.dataset.places import Place, Unreadable, content, opened

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
    """What reading showed. stamp: of the file; None where there is none, or not one. begun: when, in nanoseconds."""

    seen: Seen
    stamp: Optional[Stamp]
    begun: int


def look(places: Sequence[Place], index: Index) -> list[Seen]:
    """What is at ``places``. What the index knows is not opened; all else is read and decoded, in parallel, once."""
    with collector.off():
        known = list(_known(places, index))
    new = iter(_read_new([place for place, seen in zip(places, known) if seen is None], index))
    return [seen or next(new) for seen in known]


def _known(places: Sequence[Place], index: Index) -> Iterator[Optional[Seen]]:
    """What the index knows of each of ``places``."""
    folders: dict[str, str] = {}
    for start in range(0, len(places), ASKED):
        some = places[start : start + ASKED]
        keys = [_key(place, folders) for place in some]
        stamps = {}
        for key, place in zip(keys, some):
            try:
                stamps[key] = stamp_of(os.stat(place.path))
            except (OSError, ValueError):
                continue  # reading it will tell
        found = index.known(stamps)
        for key, place in zip(keys, some):
            known = found.get(key)
            if known is None or known.decoder != _decoder(known.complaint):
                yield None
            else:
                yield Seen(known.sha256, stamps[key].size if place.size is None else place.size, known.complaint)


def _read_new(places: Sequence[Place], index: Index) -> list[Seen]:
    """Reads ``places`` and has the index keep what that shows, also if it is broken off."""
    folders: dict[str, str] = {}
    seen: list[Seen] = []
    entries: list[Entry] = []
    try:
        for place, reading in zip(places, _readings(places)):
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
    """What the index calls it: its path, links to folders resolved. folders: those resolved before."""
    folder, slash, name = place.path.rpartition("/")
    folder += slash
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    key = os.fsencode(f"{folders[folder]}/{name}")
    return key if place.size is None else b"%b\0%d %d" % (key, place.offset, place.size)


def _decoder(complaint: Optional[str]) -> str:
    """Who says so. What is an image stays one; another release of Pillow may read what this one does not."""
    here = f"{decode.VERSION}.{decode.STRICTNESS}"
    return here if complaint is None else f"{here}, Pillow {PIL.__version__}"


def _readings(places: Sequence[Place]) -> Iterator[Reading]:
    if len(places) <= CHUNK:
        yield from map(read, places)
        return
    pool = ProcessPoolExecutor(initializer=processes.end_with_parent)
    try:
        with processes.starting():
            found = pool.map(read, places, chunksize=CHUNK)
        yield from progress(found, desc="checking images", total=len(places), leave=False)
    except BrokenProcessPool:
        raise InputError("a process that was reading images was killed, perhaps for want of memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def read(place: Place) -> Reading:
    """Reads and decodes what is at ``place``."""
    begun = time.time_ns()
    try:
        with opened(place) as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            data = content(file, place)
            unchanged = stamp == stamp_of(os.fstat(file.fileno()))
    except Unreadable as error:
        return Reading(Seen("", 0, str(error)), None, begun)
    complaint = None
    try:
        decode.decode(data, "")
    except InputError as error:
        complaint = str(error).strip()
    seen = Seen(hashlib.sha256(data).hexdigest(), len(data), complaint)
    return Reading(seen, stamp if unchanged else None, begun)
