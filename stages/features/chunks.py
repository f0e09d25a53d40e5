"""The driver's images in chunks: rows that a worker reads for itself, or files that are shipped to it."""

import hashlib
import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from stages.common.errors import InputError
from stages.dataset.sources.files.places import Place, contents
from stages.dataset.sources.files.stores import Unreadable, is_url
from stages.engines.contract import Worker
from stages.features.extract import Chunk


class Chunks:
    """The images with ``digests``, each at ``place(digest)``, in chunks of ``size``; ``shipped`` counts those sent.

    Workers read the files, and the driver does for the blind: a worker that cannot read a chunk where it is, or finds
    other bytes there, is blind from then on, and its chunk is dealt out again. The driver reads what it sends, and so
    says what is wrong where nobody can read it.
    """

    def __init__(self, digests: Sequence[bytes], place: Callable[[bytes], Place], size: int) -> None:
        self.count, self.shipped = math.ceil(len(digests) / size), 0
        self._place, self._batches = place, batches(digests, size)
        self._blind: set[Worker] = set()
        self._again: deque[Chunk] = deque()
        self._unread: set[bytes] = set()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if self._again:
            return self._again.popleft()
        digests = next(self._batches)
        places = [self._place(digest) for digest in digests]
        return Chunk([place.name for place in places], digests, list(map(_absolute, places)))

    def ship(self, worker: Worker, chunk: Chunk) -> None:
        """Takes ``chunk`` back, which ``worker`` could not read."""
        self._blind.add(worker)
        self._unread.add(chunk.digests[0])
        self._again.append(chunk)

    def packed(self, worker: Worker, chunk: Chunk) -> Chunk:
        """What to send to ``worker``. Raises InputError where the driver is to read the files, and cannot either."""
        if worker not in self._blind and chunk.digests[0] not in self._unread:
            return chunk
        files = []
        for name, digest, data in zip(chunk.paths, chunk.digests, contents(chunk.places)):
            if isinstance(data, Unreadable):
                raise InputError(f"{name} {data}: `dvc repro` takes up what has changed")
            if hashlib.sha256(data).digest() != digest:
                raise InputError(f"{name} was changed since it was looked at: run the same command again")
            files.append(data)
        self.shipped += len(files)
        return chunk._replace(files=files)


def _absolute(place: Place) -> Place:
    """The same for another process, which may be in another folder."""
    if place.path.startswith("/") or is_url(place.path):
        return place
    return place._replace(path=os.path.abspath(place.path))


def batches(values: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """``values`` by lists of ``size``, the last one shorter."""
    values = iter(values)
    while batch := list(itertools.islice(values, size)):
        yield batch
