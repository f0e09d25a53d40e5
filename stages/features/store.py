"""The feature cache: what a backbone makes of an image, kept per user and shared by every clone and experiment.

Key: fingerprint of all that determines a feature (see ``features.fingerprint``), then the SHA-256 of the image's
bytes. Value: CRC-32 of key and feature, then the feature as little-endian float32. Stored by ``diskcache``
(SQLite: transactional, safe between processes); when full, what was used least recently goes first.
"""

import contextlib
import os
import shutil
import sqlite3
import sys
import time
import zlib
from pathlib import Path

import diskcache
import numpy as np
import platformdirs

VARIABLE = "HEADSTART_CACHE"
# The share of the disk's free space that the cache may take where runtime.cache_gb is auto.
SHARE = 0.2
FINGERPRINT_BYTES = 32
DIGEST_BYTES = 32
# Entries read or written in one transaction: enough to be fast, few enough for other processes to get their turn.
TRANSACTION = 256
# How exactly the time of last use is known, in seconds: noting it costs as much as storing the entry.
NOTED = 3600
# What diskcache and SQLite are told. Values live in the database, not in files of their own. SQLite keeps 4 MB of the
# database in memory and maps none of it: the operating system keeps what is used anyway, and both counted as the
# driver's memory, up to 100 MB, growing with the database.
STORE = {
    "eviction_policy": "least-recently-used",
    "disk_min_file_size": 2**40,
    "sqlite_cache_size": 1024,  # pages of 4 KB
    "sqlite_mmap_size": 0,
}


def place(setting):
    """The cache's folder, or None for no cache: ``$HEADSTART_CACHE`` (a folder, or off) before ``setting``."""
    setting = os.environ.get(VARIABLE) or setting
    if setting == "off":
        return None
    return platformdirs.user_cache_path("headstart") / "features" if setting == "auto" else Path(setting).absolute()


def open_store(folder, limit_gb="auto"):
    """Opens or makes the database in ``folder``. Raises OSError or sqlite3.Error.

    limit_gb: its greatest size in 10⁹ bytes; "auto" is ``SHARE`` of what it and the free space have together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if limit_gb == "auto":
        limit = SHARE * (shutil.disk_usage(folder).free + sum(file.stat().st_size for file in _files(folder)))
    else:
        limit = limit_gb * 1e9
    return diskcache.Cache(folder, size_limit=int(limit), **STORE)


def _files(folder):
    return list(folder.glob("cache.db*"))


class FeatureCache:
    """The features of one fingerprint by image digest.

    A cache that is switched off (``folder`` None) or cannot be used holds nothing and keeps nothing; what went
    wrong is said once, on stderr. ``about``: what the fingerprint stands for, in words.
    """

    def __init__(self, folder, limit_gb, fingerprint, about):
        self._folder, self._limit_gb, self._fingerprint, self._about = folder, limit_gb, fingerprint, about
        self._complaints = set()
        self._store = None
        if folder is not None:
            self._try(self._open)

    @property
    def usable(self):
        """Whether what is put here is kept."""
        return self._store is not None

    def get(self, digests):
        """The features of ``digests`` (a list of bytes): a list of float32 arrays (dim,), None for what is not held."""
        found = []
        for start in range(0, len(digests), TRANSACTION):
            keys = [self._fingerprint + digest for digest in digests[start : start + TRANSACTION]]
            values = (self._store is not None and self._try(self._read, keys)) or [None] * len(keys)
            found.extend(self._feature(key, value) for key, value in zip(keys, values))
        return found

    def put(self, digests, features):
        """Keeps ``features`` (n, dim) float32 under ``digests``, all or none."""
        if self._store is not None:
            self._try(self._write, digests, features)

    def close(self):
        if self._store is not None:
            self._store.close()

    def _open(self):
        self._store = open_store(self._folder, self._limit_gb)
        self._store.set(b"about" + self._fingerprint, self._about)

    def _read(self, keys):
        # diskcache's own get looks up one key at a time and writes the whole entry anew to note the time of its use.
        places = ",".join("?" * len(keys))
        query = f"SELECT key, value, access_time FROM Cache WHERE raw = 1 AND key IN ({places})"
        found = {key: (value, used) for key, value, used in self._store._sql(query, keys)}
        now = time.time()
        stale = [key for key, (_, used) in found.items() if used <= now - NOTED]
        if stale:
            update = f"UPDATE Cache SET access_time = ? WHERE raw = 1 AND key IN ({','.join('?' * len(stale))})"
            with self._store.transact():
                self._store._sql(update, [now, *stale])
        return [found.get(key, (None,))[0] for key in keys]

    def _write(self, digests, features):
        with self._store.transact():
            for digest, feature in zip(digests, features):
                key = self._fingerprint + digest
                self._store.set(key, seal(key, feature.astype("<f4", copy=False).tobytes()))

    def _feature(self, key, value):
        if value is None:
            return None
        payload = unseal(key, value)
        if payload is None:
            self._say("has damaged entries; they are computed again")
            return None
        return np.frombuffer(payload, "<f4")

    def _try(self, operation, *arguments):
        try:
            return operation(*arguments)
        except diskcache.Timeout:
            # Others keep the database busy: this time it is as if it held nothing.
            return None
        except (OSError, sqlite3.Error) as error:
            self._store = None
            if _is_damage(error) and "damaged" not in self._complaints:
                self._complaints.add("damaged")
                self._say(f"is damaged ({error}) and is begun anew")
                with contextlib.suppress(OSError):
                    for file in _files(self._folder):
                        file.unlink()
                self._try(self._open)
            else:
                self._say(f"cannot be used ({error}); going on without it")
            return None

    def _say(self, what):
        if what not in self._complaints:
            self._complaints.add(what)
            print(f"the feature cache in {self._folder} {what}", file=sys.stderr)


def _is_damage(error):
    # SQLite's "malformed" and "not a database" are plain DatabaseErrors; a full or read-only disk and the like are
    # OperationalErrors.
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)


def seal(key, payload):
    """The value stored for ``payload`` under ``key``."""
    return zlib.crc32(payload, zlib.crc32(key)).to_bytes(4, "little") + payload


def unseal(key, value):
    """The payload of a stored value, or None where value and key do not belong together unchanged."""
    if not isinstance(value, bytes) or value[:4] != seal(key, value[4:])[:4]:
        return None
    return value[4:]
