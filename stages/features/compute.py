"""The driver's part: what is in the feature cache is taken from it, the rest goes through the backbone once."""

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from numpy.typing import NDArray

from stages.backbones import catalogue
from stages.backend import devices
from stages.backend.mx import loaded
from stages.common.caches.folders import cache_folder
from stages.common.errors import InputError
from stages.common.progress import progress
from stages.common.settings import params
from stages.common.settings.layout import WEIGHTS_FILE
from stages.dataset.sources.files.places import Place, read
from stages.engines import inline, local, ray
from stages.engines.contract import Engine, Work, Worker
from stages.features import calibrations, extract
from stages.features.chunks import Chunks, batches
from stages.features.database import TRANSACTION
from stages.features.extract import Chunk, Result
from stages.features.identity import fingerprint
from stages.features.store import Feature, FeatureCache
from stages.features.stored.recipe import Recipe
from stages.features.writer import Writer
from stages.inference.environment import check, environment, remark

# By runtime.engine.
ENGINES: dict[str, Callable[[params.Runtime], Engine]] = {
    "local": lambda runtime: local.engine(devices.resolve(runtime.devices, runtime.workers)),
    "ray": lambda runtime: ray.engine(str(runtime.devices), runtime.workers, runtime.ray_address),
}
# Engines whose workers do not see data/weights.
ELSEWHERE = ("ray",)

Features = NDArray[Any]  # (images, dim), of the dtype that whoever asked for them allocated
OnBad = Callable[[str, InputError], None]


@dataclass
class Seconds:
    """Where the time went: hashing files, the feature cache (in part while workers were at work); decoding and the
    network, all workers added up.
    """

    read: float = 0.0
    cache: float = 0.0
    decode: float = 0.0
    forward: float = 0.0


class Computed(NamedTuple):
    """features: row i is of the image at ``places[i]``; left as allocated where that is bad.

    digests: SHA-256 of the files, by row; None for a bad one. forward_passes: how many images went through the network.
    workers: those that were at work. shipped: how many of these the driver read for them.
    """

    features: Features
    digests: list[Optional[bytes]]
    forward_passes: int
    workers: frozenset[Worker]
    seconds: Seconds
    shipped: int


def _refuse(path: str, error: InputError) -> None:
    # The images stage has read every file, so this one is not as it was then.
    raise InputError(f"{error}: `dvc repro` takes up what has changed")


def compute(
    places: Sequence[Place],
    recipe: Recipe,
    runtime: params.Runtime,
    allocate: Callable[[int, int], Features],
    on_bad: OnBad = _refuse,
    setup: Callable[..., extract.Start] = extract.set_up,
    known: Optional[Sequence[bytes]] = None,
) -> Computed:
    """Computes the features of the images at ``places``.

    Images with the same bytes go through the network once, and none does whose feature the cache holds.

    runtime: that section of the params. allocate(n, dim): returns the array to be filled. on_bad(path, error): called
    for every file that cannot be read or decoded, with an InputError that says why; it raises that unless told
    otherwise. setup: what a worker is set up by, with the arguments of :func:`extract.set_up`.
    known: the SHA-256 digests of the images' bytes; with them a file is opened only if its feature is missing.

    Raises InputError for a feature beyond the array's dtype, and for a calibration that is not that of the recipe.
    """
    seconds = Seconds()
    digests: list[Optional[bytes]]
    if known is None:
        with _added(seconds, "read"):
            digests = [_digest(place, on_bad) for place in progress(places, desc="reading", leave=False)]
    else:
        digests = list(known)
    images = _Images(places, digests, allocate(len(places), length(recipe)), on_bad)
    workers: set[Worker] = set()
    with contextlib.closing(cached(recipe, runtime)) as cache:
        missing = _fill_from_cache(images, cache, seconds)
    chunks = Chunks(missing, images.place, runtime.batch_size)
    results = _results(chunks, recipe, runtime, setup)
    bar = progress(total=len(missing), desc="featurizing")
    with bar, contextlib.closing(results), contextlib.closing(Writer(cache)) as writer:
        for worker, chunk, result in results:
            if result.blind:
                chunks.ship(worker, chunk)
                continue
            workers.add(worker)
            _take(chunk, result, images, writer, seconds)
            bar.update(len(chunk.digests))
    seconds.cache += writer.seconds
    return Computed(images.features, images.digests, len(missing), frozenset(workers), seconds, chunks.shipped)


def _take(chunk: Chunk, result: Result, images: "_Images", writer: Writer, seconds: Seconds) -> None:
    """Takes over what a worker found of ``chunk``."""
    seconds.decode += result.decode
    seconds.forward += result.forward
    for digest, error in result.errors.items():
        images.refuse(digest, error)
    good = [digest for digest in chunk.digests if digest not in result.errors]
    if good:
        images.fill(good, result.features)
        writer.put(good, result.features)


def cached(recipe: Recipe, runtime: params.Runtime) -> FeatureCache:
    """The features by ``recipe`` that the cache of the params ``runtime`` holds."""
    about = " ".join([*recipe[:4], recipe.weights[:12]])
    return FeatureCache(cache_folder(runtime.cache), runtime.cache_gb, fingerprint(recipe), about, length(recipe))


def length(recipe: Recipe) -> int:
    """How many numbers a feature by ``recipe`` has."""
    return catalogue.find(recipe.backbone).cuts[recipe.cut]


class _Images:
    """The images asked for, by row; ``rows`` are those of each digest, in order."""

    def __init__(
        self, places: Sequence[Place], digests: list[Optional[bytes]], features: Features, on_bad: OnBad
    ) -> None:
        self.places, self.digests, self.features, self._on_bad = places, digests, features, on_bad
        self.rows: dict[bytes, list[int]] = {}
        for row, digest in enumerate(digests):
            if digest is not None:
                self.rows.setdefault(digest, []).append(row)

    def place(self, digest: bytes) -> Place:
        """Of the first with these bytes."""
        return self.places[self.rows[digest][0]]

    def fill(self, digests: Sequence[bytes], features: Union[NDArray[np.float32], Sequence[Feature]]) -> None:
        firsts = [self.rows[digest][0] for digest in digests]
        with np.errstate(over="ignore"):
            self.features[firsts] = features
        finite = np.isfinite(self.features[firsts]).all(axis=1)
        if not finite.all():
            place, dtype = self.places[firsts[finite.argmin()]], self.features.dtype.name
            raise InputError(f"{place.name} has a feature beyond {dtype}: set featurize.dtype to float32")
        for digest, feature in zip(digests, features):
            if len(self.rows[digest]) > 1:
                self.features[self.rows[digest]] = feature

    def refuse(self, digest: bytes, error: InputError) -> None:
        """Reports the images with these bytes as bad."""
        first, *copies = self.rows[digest]
        self._on_bad(self.places[first].name, error)
        for row in copies:
            self._on_bad(self.places[row].name, InputError(f"{self.places[row].name} is a copy: {error}"))
        for row in self.rows[digest]:
            self.digests[row] = None


def _fill_from_cache(images: _Images, cache: FeatureCache, seconds: Seconds) -> list[bytes]:
    """Fills in what ``cache`` holds; returns the digests of what it does not."""
    missing = []
    for digests in batches(images.rows, TRANSACTION):
        with _added(seconds, "cache"):
            found = dict(zip(digests, cache.get(digests, images.features.dtype)))
        held = {digest: feature for digest, feature in found.items() if feature is not None}
        missing += [digest for digest in digests if digest not in held]
        if held:
            images.fill(list(held), list(held.values()))
    return missing


def _results(
    chunks: Chunks, recipe: Recipe, runtime: params.Runtime, setup: Callable[..., extract.Start]
) -> Generator[tuple[Worker, Chunk, Result], None, None]:
    """Runs the images in ``chunks`` through the network."""
    if not chunks.count:
        return
    if runtime.engine not in ELSEWHERE:
        kind = devices.kind(devices.resolve(runtime.devices, 1)[0])
        check(recipe.precision, kind)
        if said := remark(recipe.precision, kind):
            print(said, file=sys.stderr)
    calibration = None
    if recipe.precision == "int8":
        calibration = calibrations.calibration(recipe, runtime.cache)
        if calibrations.digest(calibration) != recipe.calibration:
            raise InputError("the backbone's calibration for int8 is not the one that was asked for: run `dvc repro`")
    parameters = WEIGHTS_FILE.read_bytes() if runtime.engine in ELSEWHERE else WEIGHTS_FILE
    work = Work(
        partial(setup, recipe=recipe, parameters=parameters, calibration=calibration, batch_size=runtime.batch_size),
        chunks=chunks,
        count=chunks.count,
        environment=environment(catalogue.find(recipe.backbone), recipe.precision),
        describe=lambda chunk: ", ".join(chunk.paths),
        packed=chunks.packed,
    )
    yield from _engine(runtime, chunks.count)(work)


def _engine(runtime: params.Runtime, count: int) -> Engine:
    """The engine of the params for ``count`` chunks; for a single one no process is started."""
    if runtime.engine == "local" and count == 1 and not loaded():
        return inline.engine(devices.resolve(runtime.devices, 1)[0])
    return ENGINES[runtime.engine](runtime)


def _digest(place: Place, on_bad: OnBad) -> Optional[bytes]:
    try:
        return read(place)[1]
    except InputError as error:
        on_bad(place.name, error)
        return None


@contextlib.contextmanager
def _added(seconds: Seconds, name: str) -> Iterator[None]:
    """Adds the time that the block takes to one of ``seconds``."""
    begun = time.perf_counter()
    yield
    setattr(seconds, name, getattr(seconds, name) + time.perf_counter() - begun)
