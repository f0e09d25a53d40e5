"""The index of files: what an earlier look at images showed, so that unchanged ones need not be read again.

A SQLite database per user, beside the feature cache, safe between processes. Like git's index it takes a file for
unchanged where its stamp is what it was: size, times and inode, or the version of an object in a store. Nothing in it
is trusted: an entry that is not as it was written is none. A damaged, missing or busy index costs time, as what it does
not tell is read.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional

from stages.common.caches.sqlite import Expendable, connect, transaction
from stages.dataset.sources.files.stamps import Stamp, settled, stamp_of
from stages.dataset.sources.files.stores import is_url

FILE = "index.db"
TABLES = (
    "CREATE TABLE archives (key BLOB PRIMARY KEY NOT NULL, size INTEGER, modified INTEGER, changed INTEGER,"
    " inode INTEGER, members BLOB, crc INTEGER)",
    "CREATE TABLE files (key BLOB PRIMARY KEY NOT NULL, size INTEGER, modified INTEGER, changed INTEGER,"
    " inode INTEGER, sha256 BLOB, complaint BLOB, decoder BLOB, crc INTEGER) WITHOUT ROWID",
)
# Entries asked for in one query.
ASKED = 500


class Known(NamedTuple):
    """What reading showed. sha256: of the bytes, hexadecimal; complaint: why they are no image; decoder: says who."""

    sha256: str
    complaint: Optional[str]
    decoder: str


class Entry(NamedTuple):
    """key: see :func:`key_of`, then perhaps NUL and what tells a part of it; read: when it was, in nanoseconds."""

    key: bytes
    stamp: Stamp
    read: int
    known: Known


class Index:
    """The index in ``folder``; with None, or where it cannot be used, it knows nothing and keeps nothing.

    What goes wrong is said on stderr.
    """

    def __init__(self, folder: Optional[Path]) -> None:
        path = folder / FILE if folder else None
        self._kept = Expendable(f"the index {path}", path, lambda path: connect(path, TABLES))

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

    def members(self, key: bytes, stamp: Stamp) -> Optional[bytes]:
        """What was kept of the members of an archive that has the same stamp as then."""
        row = self._kept.attempt(partial(_select_members, key=key))
        if row is None or row[:4] != stamp or not _is_sound(row[5], key, row[4]):
            return None
        return bytes(row[4])

    def keep_members(self, key: bytes, stamp: Stamp, read: int, members: bytes) -> None:
        """Keeps ``members``, read at the time ``read``, in place of what was known of the archive, if it is settled."""
        if settled(stamp, read):
            self._kept.attempt(partial(_insert_members, row=(key, *stamp, members, _crc(key, members))))

    def count(self) -> int:
        """How many entries there are."""
        return self._kept.attempt(_count) or 0

    def prune(self) -> int:
        """Drops the entries of files that are gone or have changed, and damaged ones; returns how many.

        Those of objects in a store stay, as to ask for all of them may take long.
        """
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


def _select_members(connection: sqlite3.Connection, key: bytes) -> Optional[tuple[Any, ...]]:
    columns = "size, modified, changed, inode, members, crc"
    row: Optional[tuple[Any, ...]] = connection.execute(
        f"SELECT {columns} FROM archives WHERE key IS ?", (key,)
    ).fetchone()
    return row


def _insert_members(connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    with transaction(connection):
        connection.execute(f"INSERT OR REPLACE INTO archives VALUES ({','.join('?' * 7)})", row)


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM files").fetchone()[0])


def _prune(connection: sqlite3.Connection) -> int:
    rows = connection.execute("SELECT * FROM files")
    doomed = [(row[0],) for row in rows if _is_stale(row[0], row[1:5]) or not _is_sound(row[8], row[0], *row[5:8])]
    rows = connection.execute("SELECT * FROM archives")
    archives = [(row[0],) for row in rows if _is_stale(row[0], row[1:5]) or not _is_sound(row[6], row[0], row[5])]
    with transaction(connection):
        connection.executemany("DELETE FROM files WHERE key IS ?", doomed)
        connection.executemany("DELETE FROM archives WHERE key IS ?", archives)
    return len(doomed) + len(archives)


def _is_stale(key: object, stamp: tuple[Any, ...]) -> bool:
    """Whether a file is gone or has another stamp."""
    path = key.split(b"\0")[0] if isinstance(key, bytes) else b""
    if is_url(path.decode(errors="replace")):
        return False
    try:
        return stamp_of(os.stat(path)) != stamp
    except OSError:
        return True


def key_of(path: str, folders: dict[str, str]) -> bytes:
    """What the index calls a file or object: its URL, or its path with links to folders resolved.

    folders: those resolved before.
    """
    if is_url(path):
        return path.encode()
    folder, slash, name = path.rpartition("/")
    folder += slash
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.fsencode(f"{folders[folder]}/{name}")


def _crc(*values: bytes) -> int:
    """The check value of an entry: the CRC-32 of its key and of what is known. Its stamp needs none, being compared."""
    return zlib.crc32(b"\0".join(values))


def _is_sound(crc: object, *values: Any) -> bool:
    """Whether ``values`` are those that :meth:`Index.keep` wrote together with ``crc``."""
    try:
        return crc == _crc(*values)
    except TypeError:
        return False
