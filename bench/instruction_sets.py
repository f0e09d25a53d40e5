"""The same images on CPUs of several kinds: ``python -m bench.instruction_sets``.

This CPU plays the lesser ones, by a limit to oneDNN's instruction sets. For each, and each precision:
EfficientNet-Lite0 on one core, images per second, and the cosine of the features to those of float32 without a limit,
in the worst image; on photos, and on the same cut out on white grounds. What a CPU cannot compute is refused, and the
reason given.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bench.precision import installed
from stages.backend import cpu
from stages.common.errors import InputError

NAME = "efficientnet_lite0"
PRECISIONS = ("float32", "bfloat16", "int8")
SETS = ("SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI")
BATCH, ROUNDS = 16, 5


class Computed(NamedTuple):
    """What a CPU made of the pictures: features (n, dim) and images per second, or why it refused."""

    features: NDArray[np.float32]
    rate: float
    refused: Optional[str] = None


def pictures() -> tuple[list[Image.Image], list[Image.Image]]:
    """scikit-image's pictures, and the same cut out on white."""
    photos = [picture for _, picture in installed()]
    return photos, [_cut_out(photo) for photo in photos]


def _cut_out(photo: Image.Image) -> Image.Image:
    mask = Image.new("L", photo.size, 0)
    width, height = photo.size
    ImageDraw.Draw(mask).ellipse((width * 0.25, height * 0.25, width * 0.75, height * 0.75), fill=255)
    return Image.composite(photo, Image.new("RGB", photo.size, "white"), mask)


def computed(precision: str, timed: bool) -> Computed:
    """The features of all :func:`pictures`, by this process, which has not loaded MXNet yet."""
    from stages.backbones import catalogue
    from stages.inference.environment import environment
    from stages.preprocessing import pixels

    backbone = catalogue.find(NAME)
    os.environ.update(environment(backbone, precision))
    images = np.stack([pixels.pixels(image, backbone, "crop") for images in pictures() for image in images])
    batch = pixels.normalise(images, backbone)
    try:
        return Computed(*_features(precision, batch, ROUNDS if timed else 0))
    except InputError as error:
        return Computed(np.empty((0, 0), np.float32), 0.0, str(error))


def _features(precision: str, batch: NDArray[np.float32], rounds: int) -> tuple[NDArray[np.float32], float]:
    from bench import prepare
    from stages.backbones import catalogue
    from stages.inference.calibrate import measure
    from stages.inference.compile import compiled
    from stages.inference.environment import check

    check(precision, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        prepare.save_weights(NAME, Path(folder))
        body = prepare.body(NAME, Path(folder))
    calibration = measure(body, catalogue.find(NAME)) if precision == "int8" else None
    padding = np.zeros((-len(batch) % BATCH, *batch.shape[1:]), np.float32)
    batches = np.concatenate([batch, padding]).reshape(-1, BATCH, *batch.shape[1:])
    forward = compiled(body, batches[0].shape, precision, calibration=calibration)
    features = np.concatenate([forward(each).asnumpy() for each in batches])[: len(batch)]
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        forward(batches[0]).asnumpy()
        seconds.append(time.perf_counter() - begun)
    return features, BATCH / statistics.median(seconds) if seconds else 0.0


def limited(instruction_set: Optional[str], precision: str, timed: bool = False) -> Computed:
    """What a CPU computes that has only ``instruction_set``, or what this one does; in a process of its own."""
    before = {name: os.environ.pop(name, None) for name in cpu.LIMITS}
    if instruction_set is not None:
        os.environ[cpu.LIMITS[0]] = instruction_set
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(computed, precision, timed).result()
    finally:
        os.environ.pop(cpu.LIMITS[0], None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def cosines(features: NDArray[np.float32], exact: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row with the same of the other: (n,)."""
    a, b = features.astype(np.float64), exact.astype(np.float64)
    return np.asarray((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))


def lines() -> Iterator[str]:
    """The table, in Markdown."""
    yield "| CPU | precision | images/s | worst cosine, photos | on white | greatest difference |"
    yield "|---|---|--:|--:|--:|--:|"
    exact = limited(None, "float32").features
    for name in (*(name for name in SETS if name in cpu.instruction_sets({})), None):
        for precision in PRECISIONS:
            found = limited(name, precision, timed=True)
            if found.refused:
                yield f"| {name or cpu.best({}) + ', no limit'} | {precision} | refused: {found.refused} | | | |"
                continue
            worst = cosines(found.features, exact).reshape(2, -1).min(axis=1)
            difference = abs(found.features - exact).max() / abs(exact).max()
            cells = [f"{found.rate:.0f}", *(f"{each:.7f}" for each in worst), f"{difference:.1e}"]
            yield f"| {name or cpu.best({}) + ', no limit'} | {precision} | {' | '.join(cells)} |"


def main() -> None:
    for line in lines():
        print(line, flush=True)


if __name__ == "__main__":
    main()
