"""What Ray costs against worker processes, and how many images a driver can feed: ``python -m bench.cluster``.

Both engines run EfficientNet-Lite0 by turns, on all the cores of this machine, the driver's included. The driver's
ceiling is what is left when the network is gone: files of 40 KB read, hashed, shipped to a worker that drops them,
features of 1,280 numbers received and put into the cache. Its memory is told apart: what it holds itself (anonymous),
and what is mapped into it (libraries; for Ray also the object store, which all processes of a machine share).
"""

import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.pictures import encoded, photo
from bench.reuse import workspace
from stages.common import layout, params
from stages.features import compute as features
from stages.features.store import VARIABLE

ROUNDS, WAITING, TIMED = 9, 8, 6
PHOTOS = 80
FEEDS, FEW, MANY, BYTES, DIM = 3, 2_000, 20_000, 40_000, 1280
# Of the Ray Client's server, below the ports that Ray takes for its workers.
PORT = 9701


class Discard:
    """An array of which nothing is kept, as featurize.main's is on disk; it notes the greatest memory it sees."""

    def __init__(self):
        self.anonymous, self.mapped = 0, 0

    def __setitem__(self, rows, values):
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        kb = {line[0]: int(line[1]) for line in lines if line[0].startswith("Rss")}
        self.anonymous = max(self.anonymous, kb["RssAnon:"])
        self.mapped = max(self.mapped, kb["RssFile:"] + kb["RssShmem:"])

    def __getitem__(self, rows):
        return np.zeros((len(rows), 1), np.float32)


def nothing(device, threads, **_):
    """A worker without a network."""

    def start(chunk):
        result = np.zeros((len(chunk.files), DIM), np.float32), {}, {"decode": 0.0, "forward": 0.0}
        return lambda: result

    return start


def feed(folder, count, runtime):
    """Featurizes ``count`` files without a network; returns seconds, peak anonymous and peak mapped memory in MB."""
    if runtime["engine"] == "ray":
        import ray

        # The workers have no bench/.
        ray.cloudpickle.register_pickle_by_value(sys.modules[nothing.__module__])
    features._load = nothing
    given = params.load()
    files = sorted(map(str, Path(folder).iterdir()))[:count]
    recipe = features.recipe(given.backbone.cut, given.featurize)
    runtime = given.runtime.model_copy(update={"devices": "cpu", "workers": 1, **runtime})
    array = Discard()
    with tempfile.TemporaryDirectory() as cache:
        os.environ[VARIABLE] = cache
        begun = time.perf_counter()
        features.featurize(files, recipe, runtime, lambda *shape: array)
        seconds = time.perf_counter() - begun
    return seconds, array.anonymous / 1e3, array.mapped / 1e3


def forward(engine):
    """The results of photos without end through the network: a generator that yields the number of images in each."""
    given = params.load()
    runtime = given.runtime.model_copy(update={"engine": engine, "ray_address": "local", "devices": "cpu"})
    files = sorted(map(str, (layout.IMAGES / "class").iterdir()))
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
    from ray.cluster_utils import Cluster

    engines = {
        "local": {"engine": "local"},
        "ray": {"engine": "ray", "ray_address": "local"},
        "ray://": {"engine": "ray", "ray_address": f"ray://127.0.0.1:{PORT}"},
    }
    print(f"| driver, files of {BYTES / 1e3:.0f} KB | images/s | anonymous memory | mapped | grown per image |")
    print("|---|---|---|---|---|")
    with workspace([]), tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for number in range(MANY):
            Path(folder, f"{number:06}").write_bytes(rng.bytes(BYTES))
        for name, runtime in engines.items():
            head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": PORT}
            nodes = Cluster(initialize_head=True, head_node_args=head) if name == "ray://" else None
            try:
                pairs = [[alone(feed, folder, count, runtime) for count in (FEW, MANY)] for _ in range(FEEDS)]
            finally:
                if nodes:
                    nodes.shutdown()
            rates = [(MANY - FEW) / (many[0] - few[0]) for few, many in pairs]
            few, many = (np.median(runs, axis=0) for runs in zip(*pairs))
            print(
                f"| {name} | {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) "
                f"| {few[1]:.0f} → {many[1]:.0f} MB | {few[2]:.0f} → {many[2]:.0f} MB "
                f"| {(many[1] - few[1]) * 1e3 / (MANY - FEW):.1f} KB |"
            )


def overhead():
    images = [encoded(photo(seed, (500, 375)), "JPEG", quality=90) for seed in range(PHOTOS)]
    firsts = []
    with workspace(images), closing(forward("local")) as local, closing(forward("ray")) as ray:
        for results in (local, ray):
            begun = time.perf_counter()
            next(results)
            firsts.append(time.perf_counter() - begun)
            rate(results)
        rounds = [(rate(local), rate(ray)) for _ in range(ROUNDS)]
    print("\n| EfficientNet-Lite0 | images/s | first result after |")
    print("|---|---|---|")
    for name, rates, first in zip(("local", "ray"), zip(*rounds), firsts):
        print(f"| {name} | {statistics.median(rates):.1f} | {first:.1f} s |")
    ratios = sorted(ray / local for local, ray in rounds)
    quarter = ROUNDS // 4
    print(f"| ray / local | {statistics.median(ratios):.3f}, middle half {ratios[quarter]:.3f} to", end=" ")
    print(f"{ratios[-quarter - 1]:.3f} of {ROUNDS} | |")


def main():
    ceiling()
    overhead()


if __name__ == "__main__":
    main()
