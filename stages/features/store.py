"""The feature cache: what a backbone makes of an image, kept per user and shared by every clone and experiment.

Key: fingerprint of all that determines a feature (see ``identity``), then the SHA-256 of the image's bytes. Value: the
feature as little-endian float32. ``database`` has how they lie on disk.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from stages.common.sqlite import Expendable
from stages.features.database import FILE, TRANSACTION, Database, Limit, seal, unseal

Feature = NDArray[np.float32]  # (dim,)


class FeatureCache:
    """The features of one fingerprint by image digest.

    A cache that is switched off (``folder`` None) or cannot be used holds nothing and keeps nothing; what went
    wrong is said once, on stderr. about: what the fingerprint stands for, in words. dim: the length of a feature.
    """

    def __init__(self, folder: Optional[Path], limit_gb: Limit, fingerprint: bytes, about: str, dim: int) -> None:
        self._fingerprint, self._dim = fingerprint, dim

        def begin(path: Path) -> Database:
            database = Database(path.parent, limit_gb)
            try:
                database.describe(fingerprint, about)
            except BaseException:
                database.close()
                raise
            return database

        self._kept = Expendable(f"the feature cache in {folder}", folder / FILE if folder else None, begin)
        self._kept.attempt(lambda database: None)

    @property
    def usable(self) -> bool:
        """Whether what is put here is kept."""
        return self._kept.usable

    def get(self, digests: Sequence[bytes]) -> list[Optional[Feature]]:
        """The features of ``digests``, None for what is not held."""
        found: list[Optional[Feature]] = []
        for start in range(0, len(digests), TRANSACTION):
            keys = [self._fingerprint + digest for digest in digests[start : start + TRANSACTION]]
            held = self._kept.attempt(partial(Database.read, keys=keys)) or {}
            found.extend(self._feature(key, held[key]) if key in held else None for key in keys)
        return found

    def put(self, digests: Sequence[bytes], features: NDArray[np.float32]) -> None:
        """Keeps ``features`` (n, dim) under ``digests``, all or none."""
        if not self.usable:
            return
        entries = []
        for digest, feature in zip(digests, features):
            key = self._fingerprint + digest
            entries.append((key, seal(key, feature.astype("<f4", copy=False).tobytes())))
        self._kept.attempt(partial(Database.write, entries=entries))

    def close(self) -> None:
        """Lets go of the database; what is used again is opened again."""
        self._kept.close()

    def _feature(self, key: bytes, value: object) -> Optional[Feature]:
        payload = unseal(key, value)
        if payload is None or len(payload) != 4 * self._dim:
            self._kept.say("has damaged entries; they are computed again")
            return None
        return np.frombuffer(payload, "<f4")
