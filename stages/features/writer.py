"""Features on their way into the feature cache, while the workers are at work on others."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from stages.features.database import TRANSACTION
from stages.features.store import FeatureCache

# Seconds that a feature waits at most for others, to go into the cache with them.
PATIENCE = 1.0


class Writer:
    """Puts features into ``cache``, many at a time, as a transaction costs as much; ``seconds`` tells what that took.

    It does so in a thread of its own, to which alone the cache belongs until this is closed. Of what is put faster than
    the cache takes it, at most two transactions are kept in memory.
    """

    def __init__(self, cache: FeatureCache) -> None:
        self.seconds = 0.0
        self._cache, self._thread = cache, ThreadPoolExecutor(1)
        # A database belongs to the thread that opened it; this one will open it again.
        cache.close()
        self._writing: Optional[Future[None]] = None
        self._digests: list[bytes] = []
        self._features: list[NDArray[Any]] = []
        self._begun = time.monotonic()

    def put(self, digests: Sequence[bytes], features: NDArray[Any]) -> None:
        """Takes ``features`` (n, dim), to be kept under ``digests``."""
        self._digests += digests
        self._features += list(features)
        # What is lost with a process that is killed is computed again.
        if len(self._digests) >= TRANSACTION or time.monotonic() - self._begun > PATIENCE:
            self._write()

    def close(self) -> None:
        """Returns when all are in the cache."""
        try:
            self._write()
            if self._writing:
                self._writing.result()
        finally:
            self._thread.submit(self._cache.close)
            self._thread.shutdown()

    def _write(self) -> None:
        if self._writing:
            self._writing.result()
        if self._digests:
            self._writing = self._thread.submit(self._store, self._digests, self._features)
        self._digests, self._features, self._begun = [], [], time.monotonic()

    def _store(self, digests: Sequence[bytes], features: Sequence[NDArray[Any]]) -> None:
        begun = time.perf_counter()
        self._cache.put(digests, np.stack(features))
        self.seconds += time.perf_counter() - begun
