"""The worker's part: from the bytes of image files to features."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from numpy.typing import NDArray

from stages.backbones import catalogue, zoo
from stages.backend import devices
from stages.common.errors import InputError
from stages.dataset.sources.files.places import Place, contents
from stages.dataset.sources.files.stores import Unreadable
from stages.features.stored.recipe import Recipe
from stages.inference.calibrate import Calibration
from stages.inference.compile import PASS, Network, compiled
from stages.inference.environment import check
from stages.preprocessing import pixels
from stages.preprocessing.filling import Fill, Row, filler
from stages.preprocessing.layout import Batch, Layout
from stages.preprocessing.raster import raster

Features = NDArray[np.float32]  # (n, dim)


class Chunk(NamedTuple):
    """Images for one forward pass: what they are called (for messages), the digests of their bytes, where these are.

    files: the bytes themselves, for a worker that cannot read them there; None for one that is to try.
    """

    paths: Sequence[str]
    digests: Sequence[bytes]
    places: Sequence[Place]
    files: Optional[Sequence[bytes]] = None


class Result(NamedTuple):
    """features: float32 (n, dim), of the images that can be decoded, in their order. errors: of the others, by digest.

    decode, forward: seconds that this took the worker, reading included. blind: whether it could not read the images
    where they are, or found others there; then nothing else was done.
    """

    features: Features
    errors: dict[bytes, InputError]
    decode: float
    forward: float
    blind: bool = False


BLIND = Result(np.empty((0, 0), np.float32), {}, 0.0, 0.0, blind=True)

Finish = Callable[[], Result]
Start = Callable[[Chunk], Finish]


def set_up(
    device: str,
    threads: int,
    recipe: Recipe,
    parameters: Union[Path, bytes],
    calibration: Optional[Calibration],
    batch_size: int,
) -> Start:
    """Sets up a worker (see ``engines.contract``); returns what starts a :class:`Chunk` of at most ``batch_size``.

    parameters: the file ``weights.params``, or its bytes on a machine that does not have it.
    calibration: for int8, of the backbone in ``recipe``.
    """
    check(recipe.precision, devices.kind(device))
    backbone = catalogue.find(recipe.backbone)
    prepared = cache(partial(_prepared, _body(recipe, parameters), recipe, backbone.size, device, calibration))
    fill, least, pool = filler(backbone, recipe.resize), pixels.least_side(backbone), ThreadPoolExecutor(threads)
    told_of_memory = partial(devices.memory_of, device, "runtime.batch_size")
    # One core decodes and computes: at once, each would find the other's data in its caches, which costs 5 %.
    alone = threads == 1 and devices.kind(device) == "cpu"

    def start(chunk: Chunk) -> Finish:
        # Few sizes, so that few graphs are compiled. A row without an image is computed for nothing.
        with told_of_memory():
            network, batch = prepared(min(batch_size, 1 << (len(chunk.digests) - 1).bit_length()))
        begun = time.perf_counter()
        files = found_by(pool, chunk) if chunk.files is None else chunk.files
        if files is None:
            return lambda: BLIND
        put = partial(_put, fill=fill, layout=network.layout, least=least)
        found = list(pool.map(put, files, chunk.paths, batch))
        errors = {digest: error for digest, error in zip(chunk.digests, found) if error}
        good = [row for row, error in enumerate(found) if not error]
        decoded = time.perf_counter()
        with told_of_memory():
            outputs = [network.run(images) for images in np.split(batch, len(batch) // network.layout.count)]
            if alone:
                outputs[-1].wait_to_read()
        forward = time.perf_counter() - decoded

        def finish() -> Result:
            asked = time.perf_counter()
            with told_of_memory():
                features = np.concatenate([output.asnumpy() for output in outputs])[good]
            return Result(features, errors, decoded - begun, forward + time.perf_counter() - asked)

        return finish

    return start


def _body(recipe: Recipe, parameters: Union[Path, bytes]) -> zoo.Layer:
    data = parameters if isinstance(parameters, bytes) else parameters.read_bytes()
    return zoo.body(zoo.loaded(recipe.backbone, data, sha256=recipe.weights), recipe.cut)


def _prepared(
    body: zoo.Layer, recipe: Recipe, size: int, device: str, calibration: Optional[Calibration], count: int
) -> tuple[Network, Batch]:
    """The network for batches of ``count`` images, in one pass or several, and a batch of so many whole passes."""
    images = min(count, PASS) if devices.kind(device) == "cpu" else count
    network = compiled(body, (images, 3, size, size), recipe.precision, devices.context(device), calibration)
    return network, np.concatenate([network.layout.zeros()] * math.ceil(count / images))


def found_by(pool: Executor, chunk: Chunk) -> Optional[Sequence[bytes]]:
    """The bytes of the images in ``chunk``, read where they are; None unless all have the digests that they should."""
    files = [data for data in contents(chunk.places) if not isinstance(data, Unreadable)]
    if len(files) == len(chunk.digests) and list(pool.map(_sha256, files)) == list(chunk.digests):
        return files
    return None


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _put(data: bytes, path: str, row: Row, fill: Fill, layout: Layout, least: int) -> Optional[InputError]:
    """Puts the image of a file into its ``row`` of a batch; returns the InputError that says why that cannot be."""
    try:
        fill(raster(data, path, least), layout, row)
    except InputError as error:
        return error
    return None
