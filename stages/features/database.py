"""The feature cache on disk: the SQLite database ``features.db``, safe between processes.

Nothing in it is trusted: tables that are not as they are made here are damage, and so is a value that does not belong
to its key.
"""

import shutil
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

from stages.common.caches.sqlite import connect, size_on_disk, transaction
from stages.common.streams import plain

FILE = "features.db"
# The database of earlier versions.
OLD = "cache.db"

# The share of the disk's free space that the database may take where its limit is auto.
SHARE = 0.2
# A key: the fingerprint of all that determines a feature (see ``identity``), and the SHA-256 of the image's bytes.
FINGERPRINT_BYTES = 32
DIGEST_BYTES = 32
# Entries read or written in one transaction: enough to be fast, few enough for other processes to get their turn.
TRANSACTION = 256
# Entries that go at a time where the database is too large.
DROPPED = 32
# How exactly the time of last use is known, in microseconds: noting it costs as much as storing the entry.
NOTED = 3600 * 10**6
# Bytes of a page. A feature of 1,280 numbers is stored in two thirds of the time that it takes over pages of 4,096.
PAGE = 1 << 14
# Pages moved in one transaction where space is given back.
MOVED = 4096

TABLES = (
    # The value last: what stands before it is read without it.
    "CREATE TABLE features (key BLOB PRIMARY KEY NOT NULL, used INTEGER NOT NULL, value BLOB NOT NULL)",
    "CREATE INDEX by_use ON features (used)",
    "CREATE TABLE about (fingerprint BLOB PRIMARY KEY NOT NULL, text TEXT NOT NULL)",
)

Limit = Union[Literal["auto"], float]


class Database:
    """The database in ``folder``, which is made where it is missing.

    limit_gb: its greatest size in 10⁹ bytes (see :attr:`size`); "auto" is ``SHARE`` of what it and the free space have
    together. Everything here raises what ``common.sqlite`` does.
    """

    def __init__(self, folder: Path, limit_gb: Limit = "auto") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        held = size_on_disk(folder / FILE)
        self.limit = SHARE * (shutil.disk_usage(folder).free + held) if limit_gb == "auto" else limit_gb * 1e9
        if not held and (folder / OLD).exists():
            print(f"{folder / OLD} is the feature cache of an earlier version and no longer used", file=sys.stderr)
        self._connection = connect(folder / FILE, TABLES, PAGE)

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _number(self, query: str) -> int:
        return int(self._rows(query)[0][0])

    @property
    def size(self) -> int:
        """Bytes of the pages in use."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    def read(self, keys: Sequence[bytes]) -> dict[bytes, object]:
        """What is stored (see :func:`unseal`) under those of ``keys`` that are there; at most ``TRANSACTION`` keys."""
        found = self._rows(f"SELECT key, used, value FROM features WHERE key IN ({_places(keys)})", keys)
        now = time.time_ns() // 1000
        stale = [key for key, used, _ in found if not (isinstance(used, int) and now - NOTED < used <= now)]
        if stale:
            with transaction(self._connection):
                self._rows(f"UPDATE features SET used = ? WHERE key IN ({_places(stale)})", [now, *stale])
        return {key: value for key, _, value in found}

    def write(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Stores ``entries`` (key, value), all or none; where they are too many, others are dropped."""
        now = time.time_ns() // 1000
        insert = "INSERT OR REPLACE INTO features (key, used, value) VALUES (?, ?, ?)"
        with transaction(self._connection):
            self._connection.executemany(insert, ((key, now, value) for key, value in entries))
            while self.size > self.limit and self._drop_oldest():
                pass

    def _drop_oldest(self) -> int:
        """Drops some of what was used least recently; returns how many entries."""
        oldest = f"SELECT rowid FROM features ORDER BY used, rowid LIMIT {DROPPED}"
        count = self._connection.execute(f"DELETE FROM features WHERE rowid IN ({oldest})").rowcount
        if not count and self._rows("SELECT 1 FROM features NOT INDEXED LIMIT 1"):
            raise sqlite3.DatabaseError("it has lost count of what was used last")
        return count

    def prune(self, limit: float) -> None:
        """Drops what was used least recently until :attr:`size` is at most ``limit``, and shrinks the file."""
        count = 1
        while count and self.size > limit:
            with transaction(self._connection):
                count = self._drop_oldest()
        free = sys.maxsize
        while free > (free := self._number("PRAGMA freelist_count")):
            # Page by page, as the rows of the answer are fetched.
            self._rows(f"PRAGMA incremental_vacuum({MOVED})")
            self._rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def describe(self, fingerprint: bytes, text: str) -> None:
        """Notes in words what ``fingerprint`` stands for."""
        if self._rows("SELECT text FROM about WHERE fingerprint = ?", [fingerprint]) != [(text.encode(),)]:
            with transaction(self._connection):
                self._rows("INSERT OR REPLACE INTO about (fingerprint, text) VALUES (?, ?)", [fingerprint, text])

    def count(self) -> int:
        """How many features there are."""
        return self._number("SELECT COUNT(*) FROM features")

    def counts(self) -> list[tuple[bytes, int, str]]:
        """(fingerprint, how many features of it there are, what it stands for or "?"), the most first."""
        # Damaged, a value may be missing where none can be.
        start = f"COALESCE(substr(CAST(key AS BLOB), 1, {FINGERPRINT_BYTES}), x'')"
        counts = self._rows(f"SELECT {start}, COUNT(*) FROM features GROUP BY 1 ORDER BY 2 DESC, 1")
        about = dict(self._rows("SELECT fingerprint, COALESCE(CAST(substr(text, 1, 200) AS BLOB), x'') FROM about"))
        return [(found, count, plain(about.get(found, b"?").decode(errors="replace"))) for found, count in counts]

    def verify(self) -> tuple[int, int]:
        """Reads every entry and drops those that are damaged; returns how many it read, and how many it dropped."""
        count, damaged = 0, []
        for row, key, value in self._connection.execute("SELECT rowid, key, value FROM features"):
            count += 1
            if unseal(key, value) is None:
                damaged.append((row,))
        with transaction(self._connection):
            self._connection.executemany("DELETE FROM features WHERE rowid = ?", damaged)
        return count, len(damaged)

    def close(self) -> None:
        self._connection.close()


def seal(key: bytes, payload: bytes) -> bytes:
    """The value stored for ``payload`` under ``key``: the CRC-32 of both, then the payload."""
    return _crc(key, payload) + payload


def unseal(key: object, value: object) -> Optional[bytes]:
    """The payload of a stored value, or None where it is not what :func:`seal` made for this key."""
    if not isinstance(key, bytes) or len(key) != FINGERPRINT_BYTES + DIGEST_BYTES or not isinstance(value, bytes):
        return None
    payload = value[4:]
    return payload if value[:4] == _crc(key, payload) else None


def _crc(key: bytes, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(key)).to_bytes(4, "little")


def _places(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
