"""The feature cache: what a backbone makes of an image, kept per user and shared by every clone and experiment.

Key: fingerprint of all that determines a feature (see ``identity``), then the SHA-256 of the image's bytes. Value: the
feature, little-endian: float32 as it was computed, or float16 where it was taken over from records of that dtype; its
length says which. ``database`` has how they lie on disk.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stages.common.caches.sqlite import Expendable
from stages.features.database import FILE, TRANSACTION, Database, Limit, seal, unseal

Feature = NDArray[Any]  # (dim,), of one of these
DTYPES = np.dtype("<f4"), np.dtype("<f2")


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

    def get(self, digests: Sequence[bytes], dtype: DTypeLike = np.float32) -> list[Optional[Feature]]:
        """The features of ``digests``, None for what is not held, or not as precisely as ``dtype`` is."""
        found: list[Optional[Feature]] = []
        for start in range(0, len(digests), TRANSACTION):
            keys = [self._fingerprint + digest for digest in digests[start : start + TRANSACTION]]
            held = self._kept.attempt(partial(Database.read, keys=keys)) or {}
            features = (self._feature(key, held[key]) if key in held else None for key in keys)
            found.extend(f if f is not None and f.itemsize >= np.dtype(dtype).itemsize else None for f in features)
        return found

    def put(self, digests: Sequence[bytes], features: NDArray[Any]) -> None:
        """Keeps ``features`` (n, dim), float32 or float16, under ``digests``, all or none."""
        if not self.usable:
            return
        entries, dtype = [], features.dtype.newbyteorder("<")
        for digest, feature in zip(digests, features):
            key = self._fingerprint + digest
            entries.append((key, seal(key, feature.astype(dtype, copy=False).tobytes())))
        self._kept.attempt(partial(Database.write, entries=entries))

    def close(self) -> None:
        """Lets go of the database; what is used again is opened again."""
        self._kept.close()

    def _feature(self, key: bytes, value: object) -> Optional[Feature]:
        payload = unseal(key, value)
        for dtype in DTYPES:
            if payload is not None and len(payload) == dtype.itemsize * self._dim:
                return np.frombuffer(payload, dtype)
        self._kept.say("has damaged entries; they are computed again")
        return None
