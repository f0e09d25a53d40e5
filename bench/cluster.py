"""What Ray costs against worker processes, and how many images a driver can feed: ``python -m bench.cluster``.

Both engines run EfficientNet-Lite0 by turns, on all the cores of this machine, the driver's included. The driver's
ceiling is what is left when the network is gone: files of 40 KB read, hashed, shipped to a worker that drops them,
features of 1,280 numbers received and put into the cache.
"""

import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.reuse import workspace
from stages import features, params, paths
from stages.cache import VARIABLE
from tests.pictures import encoded, photo

ROUNDS, WAITING, TIMED = 9, 8, 6
PHOTOS = 80
FEW, MANY, BYTES, DIM = 2_000, 20_000, 40_000, 1280


class Discard:
    """An array of which nothing is kept, as featurize.main's is on disk."""

    def __setitem__(self, rows, values):
        pass

    def __getitem__(self, rows):
        return np.zeros((len(rows), 1), np.float32)


def nothing(device, threads):
    """A worker without a network."""

    def start(chunk):
        result = np.zeros((len(chunk.files), DIM), np.float32), {}, {"decode": 0.0, "forward": 0.0}
        return lambda: result

    return start


def feed(folder, count):
    """Featurizes ``count`` files without a network; returns (seconds, peak memory of this process in MB)."""
    import ray

    # The workers have no bench/.
    ray.cloudpickle.register_pickle_by_value(sys.modules[nothing.__module__])
    features._load = lambda device, threads, **_: nothing(device, threads)
    given = params.load()
    runtime = given.runtime.model_copy(update={"engine": "ray", "ray_address": "local", "workers": 1})
    files = sorted(map(str, Path(folder).iterdir()))[:count]
    recipe = features.recipe(given.backbone.cut, given.featurize)
    with tempfile.TemporaryDirectory() as cache:
        os.environ[VARIABLE] = cache
        begun = time.perf_counter()
        features.featurize(files, recipe, runtime, lambda *shape: Discard())
        seconds = time.perf_counter() - begun
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def forward(engine):
    """The results of photos without end through the network: a generator that yields the number of images in each."""
    given = params.load()
    runtime = given.runtime.model_copy(update={"engine": engine, "ray_address": "local", "devices": "cpu"})
    files = sorted(map(str, (paths.IMAGES / "class").iterdir()))
    digests = [features.read(path)[1] for path in files]
    rows = {digest: [row] for row, digest in enumerate(digests)}
    recipe = features.recipe(given.backbone.cut, given.featurize)
    for chunk, _ in features._forward(digests * 1000, rows, files, recipe, runtime, set()):
        yield len(chunk.files)


def rate(results):
    """Images per second over some results. Those that were waiting and those they make room for are not timed."""
    for _ in range(WAITING):
        next(results)
    begun = time.perf_counter()
    images = sum(next(results) for _ in range(TIMED))
    seconds = time.perf_counter() - begun
    # What is still on its way arrives now, not while the other engine is timed.
    time.sleep(1.5)
    return images / seconds


def alone(function, *arguments):
    """The result of ``function`` in a process of its own, whose memory is its own too."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def ceiling():
    with workspace([]), tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for number in range(MANY):
            Path(folder, f"{number:06}").write_bytes(rng.bytes(BYTES))
        few, many = alone(feed, folder, FEW), alone(feed, folder, MANY)
    rate = (MANY - FEW) / (many[0] - few[0])
    print(f"driver's ceiling       {rate:8,.0f} images/s of {BYTES / 1e3:.0f} KB")
    print(f"its memory, {FEW:>6,} images {few[1]:6,.0f} MB")
    print(f"            {MANY:>6,} images {many[1]:6,.0f} MB")


def overhead():
    images = [encoded(photo(seed, (500, 375)), "JPEG", quality=90) for seed in range(PHOTOS)]
    with workspace(images), closing(forward("local")) as local, closing(forward("ray")) as ray:
        for name, results in (("local", local), ("ray", ray)):
            begun = time.perf_counter()
            next(results)
            print(f"{name:5} first result after {time.perf_counter() - begun:4.1f} s")
            rate(results)
        rounds = [(rate(local), rate(ray)) for _ in range(ROUNDS)]
    for name, rates in zip(("local", "ray"), zip(*rounds)):
        print(f"{name:5} {statistics.median(rates):6.1f} images/s, median of {ROUNDS}")
    ratios = sorted(ray / local for local, ray in rounds)
    quarter = ROUNDS // 4
    print(
        f"ray / local {statistics.median(ratios):.3f}, middle half {ratios[quarter]:.3f} to {ratios[-quarter - 1]:.3f}"
    )


def main():
    ceiling()
    overhead()


if __name__ == "__main__":
    main()
