"""Sketches of images by their digests: those that the user's cache holds, and the rest from the images, if at hand."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Optional, Union

import numpy as np
import PIL
from numpy.typing import NDArray

from stages.common.caches.folders import cache_folder
from stages.common.cores import cores
from stages.common.errors import InputError
from stages.common.progress import progress
from stages.common.settings import params
from stages.dataset.sources.files import decode
from stages.dataset.sources.files.places import Place, contents
from stages.dataset.sources.files.stores import Unreadable
from stages.features.store import FeatureCache
from stages.findings import sketches
from stages.findings.sketches import SIDE, Sketch

# Raised whenever the same image would give another sketch than before.
VERSION = 1
# Images read and kept together.
BATCH = 64
# A sketch in the feature cache: its bytes and those of the side, as so many float32.
KEPT = SIDE * SIDE * 3 // 4 + 1


class Seen(NamedTuple):
    """sketches: uint8 (n, SIDE, SIDE, 3). sides: (n,), the shorter side of each image in pixels, of a large one perhaps
    less, but ``SIDE``; 0 where it could not be seen.
    """

    sketches: NDArray[np.uint8]
    sides: NDArray[np.float32]


def look(places: Sequence[Place], digests: Sequence[bytes], runtime: params.Runtime) -> Seen:
    """Sketches of the images at ``places``, whose bytes have these ``digests``, which are all different."""
    seen = Seen(np.zeros((len(places), SIDE, SIDE, 3), np.uint8), np.zeros(len(places), np.float32))
    with contextlib.closing(_cache(runtime)) as cache:
        for start in range(0, len(digests), 1024):
            for row, kept in enumerate(cache.get(digests[start : start + 1024]), start):
                if kept is not None:
                    seen.sketches[row] = kept[:-1].view(np.uint8).reshape(SIDE, SIDE, 3)
                    seen.sides[row] = kept[-1]
        unseen = np.flatnonzero(seen.sides == 0).tolist()
        with progress(total=len(unseen), desc="comparing images", leave=False) as bar:
            for rows, found in _batches(unseen, places, digests):
                there = [(row, one) for row, one in zip(rows, found) if one is not None]
                for row, (sketch, side) in there:
                    seen.sketches[row], seen.sides[row] = sketch, side
                own = [row for row, _ in there]
                cache.put([digests[row] for row in own], _packed(Seen(seen.sketches[own], seen.sides[own])))
                bar.update(len(rows))
    return seen


def _cache(runtime: params.Runtime) -> FeatureCache:
    kind = f"sketches {VERSION} {SIDE} {decode.VERSION} Pillow {PIL.__version__}"
    fingerprint = hashlib.sha256(kind.encode()).digest()
    about = f"small versions of images, for the audit: {kind}"
    return FeatureCache(cache_folder(runtime.cache), runtime.cache_gb, fingerprint, about, KEPT)


def _packed(seen: Seen) -> NDArray[np.float32]:
    flat = np.ascontiguousarray(seen.sketches).reshape(-1, SIDE * SIDE * 3).view(np.float32)
    return np.concatenate([flat, seen.sides[:, None]], axis=1)


Found = Optional[tuple[Sketch, int]]


def _batches(
    rows: Sequence[int], places: Sequence[Place], digests: Sequence[bytes]
) -> Iterator[tuple[Sequence[int], list[Found]]]:
    """Reads ``rows`` some at a time, several threads at once; ends where nothing of the first can be had."""
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    read = functools.partial(_read, places=places, digests=digests)
    if batches:
        first = read(batches[0])
        yield batches[0], first
        if not any(first):
            return
    with ThreadPoolExecutor(cores(physical=False)) as pool:
        yield from zip(batches[1:], pool.map(read, batches[1:]))


def _read(rows: Sequence[int], places: Sequence[Place], digests: Sequence[bytes]) -> list[Found]:
    try:
        read = contents([places[row] for row in rows])
    except InputError:
        # What a store needs is not installed, or the store is not to be reached.
        return [None] * len(rows)
    return [_sketch(data, places[row], digests[row]) for row, data in zip(rows, read)]


def _sketch(data: Union[bytes, Unreadable], place: Place, digest: bytes) -> Found:
    if isinstance(data, Unreadable) or hashlib.sha256(data).digest() != digest:
        return None
    try:
        image = decode.decode(data, place.name, least=SIDE)
    except InputError:
        return None
    return sketches.sketch(image), min(image.size)
