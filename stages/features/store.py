"""The feature cache: what a backbone makes of an image, kept per user and shared by every clone and experiment.

Key: fingerprint of all that determines a feature (see ``identity``), then the SHA-256 of the image's bytes. Value: the
feature as little-endian float32. ``database`` has how they lie on disk.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.features.database import (
    ERRORS,
    TRANSACTION,
    Database,
    Limit,
    is_busy,
    is_damage,
    plain,
    remove,
    seal,
    unseal,
)

Feature = NDArray[np.float32]  # (dim,)
Answer = TypeVar("Answer")


class FeatureCache:
    """The features of one fingerprint by image digest.

    A cache that is switched off (``folder`` None) or cannot be used holds nothing and keeps nothing; what went
    wrong is said once, on stderr. about: what the fingerprint stands for, in words. dim: the length of a feature.
    """

    def __init__(self, folder: Optional[Path], limit_gb: Limit, fingerprint: bytes, about: str, dim: int) -> None:
        self._folder, self._limit_gb = folder, limit_gb
        self._fingerprint, self._about, self._dim = fingerprint, about, dim
        self._usable, self._begun_anew = folder is not None, False
        self._database: Optional[Database] = None
        self._complaints: set[str] = set()
        self._try(lambda database: None)

    @property
    def usable(self) -> bool:
        """Whether what is put here is kept."""
        return self._usable

    def get(self, digests: Sequence[bytes]) -> list[Optional[Feature]]:
        """The features of ``digests``, None for what is not held."""
        found: list[Optional[Feature]] = []
        for start in range(0, len(digests), TRANSACTION):
            keys = [self._fingerprint + digest for digest in digests[start : start + TRANSACTION]]
            held = self._try(partial(Database.read, keys=keys)) or {}
            found.extend(self._feature(key, held[key]) if key in held else None for key in keys)
        return found

    def put(self, digests: Sequence[bytes], features: NDArray[np.float32]) -> None:
        """Keeps ``features`` (n, dim) under ``digests``, all or none."""
        entries = []
        for digest, feature in zip(digests, features):
            key = self._fingerprint + digest
            entries.append((key, seal(key, feature.astype("<f4", copy=False).tobytes())))
        self._try(partial(Database.write, entries=entries))

    def close(self) -> None:
        """Lets go of the database; what is used again is opened again."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _feature(self, key: bytes, value: object) -> Optional[Feature]:
        payload = unseal(key, value)
        if payload is None or len(payload) != 4 * self._dim:
            self._say("has damaged entries; they are computed again")
            return None
        return np.frombuffer(payload, "<f4")

    def _try(self, operation: Callable[[Database], Answer]) -> Optional[Answer]:
        """The answer of ``operation``, or None where there is none."""
        if self._folder is None or not self._usable:
            return None
        try:
            if self._database is None:
                self._database = Database(self._folder, self._limit_gb)
                self._database.describe(self._fingerprint, self._about)
            return operation(self._database)
        except ERRORS as error:
            # Where others keep it busy it is this time as if it held nothing.
            if is_busy(error):
                return None
            return self._recover(self._folder, operation, error)

    def _recover(self, folder: Path, operation: Callable[[Database], Answer], error: Exception) -> Optional[Answer]:
        """Tries ``operation`` again on a new database where the old one is damaged, once; else gives it up."""
        # Another process may have begun it anew in the meantime.
        replaced = self._database is not None and self._database.replaced
        self.close()
        what = plain(str(error))[:200]
        if not is_damage(error) or self._begun_anew:
            self._usable = False
            self._say(f"cannot be used ({what}); going on without it")
            return None
        self._begun_anew = True
        self._say(f"is damaged ({what}) and is begun anew")
        if not replaced:
            with contextlib.suppress(OSError):
                remove(folder)
        return self._try(operation)

    def _say(self, what: str) -> None:
        if what not in self._complaints:
            self._complaints.add(what)
            print(f"the feature cache in {self._folder} {what}", file=sys.stderr)
