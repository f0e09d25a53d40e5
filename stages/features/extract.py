"""The worker's part: from the bytes of image files to features."""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from numpy.typing import NDArray

from stages.backbones import catalogue, zoo
from stages.backbones.catalogue import Backbone
from stages.backend import devices
from stages.common.errors import InputError
from stages.dataset.files.decode import decode
from stages.dataset.files.places import Place, contents
from stages.dataset.files.stores import Unreadable
from stages.features.stored.recipe import Recipe
from stages.inference import pixels
from stages.inference.calibrate import Calibration
from stages.inference.compile import compiled
from stages.inference.environment import check

Image = NDArray[np.uint8]  # (size, size, 3)
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
    data = parameters if isinstance(parameters, bytes) else parameters.read_bytes()
    body = zoo.body(zoo.loaded(recipe.backbone, data, sha256=recipe.weights), recipe.cut)
    backbone = catalogue.find(recipe.backbone)
    forward = _network(device, body, backbone, recipe.precision, calibration, batch_size)
    pixels_of = partial(_pixels, backbone=backbone, resize=recipe.resize)
    pool = ThreadPoolExecutor(threads)

    def start(chunk: Chunk) -> Finish:
        begun = time.perf_counter()
        files = found_by(pool, chunk) if chunk.files is None else chunk.files
        if files is None:
            return lambda: BLIND
        found = list(pool.map(pixels_of, files, chunk.paths))
        images = [image for image in found if not isinstance(image, InputError)]
        errors = {digest: error for digest, error in zip(chunk.digests, found) if isinstance(error, InputError)}
        decode_seconds = time.perf_counter() - begun
        features_of_images = forward(images)

        def finish() -> Result:
            waiting = time.perf_counter()
            features = features_of_images()
            return Result(features, errors, decode_seconds, time.perf_counter() - waiting)

        return finish

    return start


def found_by(pool: Executor, chunk: Chunk) -> Optional[Sequence[bytes]]:
    """The bytes of the images in ``chunk``, read where they are; None unless all have the digests that they should."""
    files = [data for data in contents(chunk.places) if not isinstance(data, Unreadable)]
    if len(files) == len(chunk.digests) and list(pool.map(_sha256, files)) == list(chunk.digests):
        return files
    return None


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _network(
    device: str,
    body: zoo.Layer,
    backbone: Backbone,
    precision: str,
    calibration: Optional[Calibration],
    batch_size: int,
) -> Callable[[Sequence[Image]], Callable[[], Features]]:
    """A function that begins to compute the features of images, and returns one that waits for them."""
    context = devices.context(device)
    networks: dict[tuple[int, ...], Callable[[Features], Any]] = {}

    def start(images: Sequence[Image]) -> Callable[[], Features]:
        if not images:
            return lambda: np.empty((0, 0), np.float32)
        # Few batch sizes, so that few graphs are compiled; the rest of a batch is padding.
        size = min(batch_size, 1 << (len(images) - 1).bit_length())
        shape = (size, 3, backbone.size, backbone.size)
        batch = np.empty(shape, np.float32)
        batch[len(images) :] = 0
        pixels.normalise(np.stack(images), backbone, out=batch[: len(images)])
        with devices.memory_of(device, "runtime.batch_size"):
            if shape not in networks:
                networks[shape] = compiled(body, shape, precision, context, calibration)
            output = networks[shape](batch)

        def finish() -> Features:
            with devices.memory_of(device, "runtime.batch_size"):
                return output.asnumpy()[: len(images)]

        return finish

    return start


def _pixels(data: bytes, path: str, backbone: Backbone, resize: str) -> Union[Image, InputError]:
    """The image's pixels (size, size, 3), or the InputError that says why it has none."""
    try:
        return pixels.pixels(decode(data, path, pixels.least_side(backbone)), backbone, resize)
    except InputError as error:
        return error
