"""The index of files: what an earlier look at images showed, so that unchanged ones need not be read again.

A SQLite database per user, beside the feature cache, safe between processes. Like git's index it takes a file for
unchanged where size, times and inode are what they were. Nothing in it is trusted: an entry that is not as it was
written is none. A damaged, missing or busy index costs time, as what it does not tell is read.

A file can be written twice within one tick of its file system's clock, and has the same stamp after both. What was read
in between would be taken for what came after. So what was read less than ``TICK`` after the file changed is not kept:
the next look reads it again (git calls such an entry racily clean).
"""

import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional

from stages.common.sqlite import Expendable, connect, transaction

FILE = "index.db"
TABLE = (
    "CREATE TABLE files (key BLOB PRIMARY KEY NOT NULL, size INTEGER, modified INTEGER, changed INTEGER,"
    " inode INTEGER, sha256 BLOB, complaint BLOB, decoder BLOB, crc INTEGER) WITHOUT ROWID"
)
# Entries asked for in one query.
ASKED = 500
# In nanoseconds. The coarsest clock of a file system in use ticks every two seconds (FAT). One more second is for the
# kernel's clock, by which files get their times: it is milliseconds behind the one that tells the time here, and on a
# file server a little off.
TICK = 3 * 10**9


class Stamp(NamedTuple):
    """What tells a file that has changed from one that has not: bytes, nanoseconds, number of the inode.

    changed: the inode's time. Unlike ``modified`` it cannot be set, and so gives away a file that was replaced by one
    of the same size and time of modification, as ``cp -p`` and ``rsync -t`` do.
    """

    size: int
    modified: int
    changed: int
    inode: int


class Known(NamedTuple):
    """What reading showed. sha256: of the bytes, hexadecimal; complaint: why they are no image; decoder: says who."""

    sha256: str
    complaint: Optional[str]
    decoder: str


class Entry(NamedTuple):
    """key: the file's real path, then perhaps NUL and what tells a part of it; read: when it was, in nanoseconds."""

    key: bytes
    stamp: Stamp
    read: int
    known: Known


def stamp_of(stat: os.stat_result) -> Stamp:
    """The stamp of a file."""
    # SQLite's integers have a sign.
    return Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**63 - 1))


def settled(stamp: Stamp, read: int) -> bool:
    """Whether every change of the file after the time ``read`` (nanoseconds) is sure to give it another stamp."""
    # A time of modification in the future was set by hand. The inode's time cannot be: it comes from a server whose
    # clock is ahead, or the file changed after ``read``.
    return stamp.changed < read - TICK and not read - TICK <= stamp.modified <= read


class Index:
    """The index in ``folder``; with None, or where it cannot be used, it knows nothing and keeps nothing.

    What goes wrong is said on stderr.
    """

    def __init__(self, folder: Optional[Path]) -> None:
        path = folder / FILE if folder else None
        self._kept = Expendable(f"the index {path}", path, lambda path: connect(path, [TABLE]))

    def known(self, stamps: Mapping[bytes, Stamp]) -> dict[bytes, Known]:
        """By key, what is known of those files that have the same stamp as then."""
        found: dict[bytes, Known] = {}
        keys = sorted(stamps)
        for start in range(0, len(keys), ASKED):
            rows = self._kept.attempt(partial(_select, keys=keys[start : start + ASKED])) or ()
            for key, size, modified, changed, inode, sha256, complaint, decoder, crc in rows:
                unchanged = stamps.get(key) == (size, modified, changed, inode)
                if unchanged and _is_sound(crc, key, sha256, complaint, decoder):
                    found[key] = Known(sha256.hex(), complaint.decode() or None, decoder.decode())
        return found

    def keep(self, entries: Iterable[Entry]) -> None:
        """Keeps those ``entries`` that are settled, in place of what was known of the same files; all or none."""
        rows = []
        for key, stamp, read, known in entries:
            if settled(stamp, read):
                values = (
                    bytes.fromhex(known.sha256),
                    (known.complaint or "").encode(errors="replace"),
                    known.decoder.encode(),
                )
                rows.append((key, *stamp, *values, _crc(key, *values)))
        if rows:
            self._kept.attempt(partial(_insert, rows=rows))

    def count(self) -> int:
        """How many entries there are."""
        return self._kept.attempt(_count) or 0

    def prune(self) -> int:
        """Drops the entries of files that are gone or have changed, and damaged ones; returns how many."""
        return self._kept.attempt(_prune) or 0

    def close(self) -> None:
        """Lets go of the database; what is used again is opened again."""
        self._kept.close()


def _select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """The rows of ``keys``, which are sorted, and perhaps of others."""
    # Mostly these are all there are between the first and the last: one walk finds them in half the time.
    between, limit = "SELECT * FROM files WHERE key BETWEEN ? AND ? LIMIT ?", 2 * len(keys)
    rows = connection.execute(between, (keys[0], keys[-1], limit)).fetchall()
    if len(rows) < limit:
        return rows
    return connection.execute(f"SELECT * FROM files WHERE key IN ({','.join('?' * len(keys))})", keys).fetchall()


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    with transaction(connection):
        connection.executemany(f"INSERT OR REPLACE INTO files VALUES ({','.join('?' * 9)})", rows)


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM files").fetchone()[0])


def _prune(connection: sqlite3.Connection) -> int:
    rows = connection.execute("SELECT * FROM files")
    doomed = [(row[0],) for row in rows if row[1:5] != _stamp_at(row[0]) or not _is_sound(row[8], row[0], *row[5:8])]
    with transaction(connection):
        connection.executemany("DELETE FROM files WHERE key IS ?", doomed)
    return len(doomed)


def _stamp_at(key: object) -> Optional[Stamp]:
    try:
        return stamp_of(os.stat(key.split(b"\0")[0])) if isinstance(key, bytes) else None
    except OSError:
        return None


def _crc(*values: bytes) -> int:
    """The check value of an entry: the CRC-32 of its key and of what is known. Its stamp needs none, being compared."""
    return zlib.crc32(b"\0".join(values))


def _is_sound(crc: object, *values: Any) -> bool:
    """Whether ``values`` are those that :meth:`Index.keep` wrote together with ``crc``."""
    try:
        return crc == _crc(*values)
    except TypeError:
        return False
