"""What Ray costs against worker processes, and how many images a driver can feed: ``python -m bench.cluster``.

Both engines run EfficientNet-Lite0 by turns, on all the cores of this machine, the driver's included. The driver's
ceiling is what is left when the network is gone: files of 40 KB, whose digests are known, read and hashed by the
worker, or by the driver, which ships them; features of 1,280 numbers received and put into the cache on disk.
Its memory is told apart: what it holds itself (anonymous), and what is mapped into it (libraries; for Ray also the
object store, which all processes of a machine share).
"""

import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.pictures import encoded, photo
from bench.workspace import DIM, IMAGES, workspace
from stages.backbones import catalogue
from stages.common.caches.folders import CACHE_VARIABLE
from stages.common.settings import layout, params
from stages.dataset.sources.files.places import Place, read
from stages.engines.contract import Work
from stages.features import compute, extract, identity
from stages.inference.environment import environment

ROUNDS, WAITING, TIMED = 9, 8, 6
PHOTOS, CHUNKS = 80, 5_000
FEEDS, FEW, MANY, BYTES = 3, 2_000, 20_000, 40_000
# Engine, who reads the files, batch_size, cache. Where nobody does, it shows what the driver can feed to many workers:
# more than one worker of one core can read.
DRIVERS = (
    ("local", "driver", 16, "auto"),
    ("local", "worker", 16, "auto"),
    ("ray", "driver", 16, "auto"),
    ("ray", "worker", 16, "auto"),
    ("ray", "worker", 256, "off"),
    ("ray", "nobody", 16, "off"),
    ("ray", "nobody", 256, "auto"),
    ("ray", "nobody", 256, "off"),
    ("ray://", "driver", 16, "auto"),
    ("ray://", "nobody", 256, "off"),
)
# Of the Ray Client's server, below the ports that Ray takes for its workers.
PORT = 9701


class Discard:
    """An array of which nothing is kept, as featurize's is on disk; it notes how many come, and the greatest memory."""

    dtype = np.dtype(np.float32)

    def __init__(self) -> None:
        self.begun, self.seconds, self.count = 0.0, 0.0, 0
        self.anonymous, self.mapped = 0, 0

    def __setitem__(self, rows: list[int], values: object) -> None:
        # Those that come first are not timed: they wait for the workers to start.
        if self.begun:
            self.count, self.seconds = self.count + len(rows), time.perf_counter() - self.begun
        else:
            self.begun = time.perf_counter()
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        kb = {line[0]: int(line[1]) for line in lines if line[0].startswith("Rss")}
        self.anonymous = max(self.anonymous, kb["RssAnon:"])
        self.mapped = max(self.mapped, kb["RssFile:"] + kb["RssShmem:"])

    def __getitem__(self, rows: list[int]) -> Any:
        return np.zeros((len(rows), 1), np.float32)


class Fed(NamedTuple):
    """Images per second, and the driver's peak memory (MB)."""

    rate: float
    anonymous: float
    mapped: float


def without_network(device: str, threads: int, reader: str, **_: object) -> extract.Start:
    """Sets up a worker without a network, to which the files are read by ``reader``."""
    pool = ThreadPoolExecutor(threads)

    def start(chunk: extract.Chunk) -> extract.Finish:
        if chunk.files is None and reader != "nobody" and (reader == "driver" or not extract.found_by(pool, chunk)):
            return lambda: extract.BLIND
        result = extract.Result(np.zeros((len(chunk.digests), DIM), np.float32), {}, 0.0, 0.0)
        return lambda: result

    return start


def feed(folder: str, count: int, reader: str, runtime: dict[str, object]) -> Fed:
    """Featurizes ``count`` files without a network; runtime: changes to that section of the params."""
    if runtime["engine"] == "ray":
        import ray

        # The workers have no bench/.
        pickle: Any = ray.cloudpickle
        pickle.register_pickle_by_value(sys.modules[without_network.__module__])
    given = params.load()
    places = [Place(str(path)) for path in sorted(Path(folder).iterdir())[:count]]
    digests = [read(place)[1] for place in places]
    changed = given.runtime.model_copy(update={"devices": "cpu", "workers": 1, **runtime})
    array: Any = Discard()
    setup = partial(without_network, reader=reader)
    with tempfile.TemporaryDirectory() as cache:
        # The variable comes before the setting.
        os.environ[CACHE_VARIABLE] = cache if changed.cache == "auto" else changed.cache
        recipe = identity.current(given.backbone.cut, given.featurize, cache)
        compute.compute(places, recipe, changed, lambda n, dim: array, setup=setup, known=digests)
    return Fed(array.count / array.seconds, array.anonymous / 1e3, array.mapped / 1e3)


def forward(name: str) -> Generator[int, None, None]:
    """Photos without end through the network, by the engine ``name``; yields the number of images in each result."""
    given = params.load()
    runtime = given.runtime.model_copy(update={"engine": name, "ray_address": "local", "devices": "cpu"})
    recipe = identity.current(given.backbone.cut, given.featurize, "off")
    paths = sorted(map(str, (IMAGES / "class").iterdir()))
    files, digests = zip(*(read(Place(path)) for path in paths))
    size = runtime.batch_size
    pieces = [slice(start, start + size) for start in range(0, len(paths) - size + 1, size)]
    chunks = itertools.cycle(extract.Chunk(paths[piece], digests[piece], (), files[piece]) for piece in pieces)
    work = Work(
        partial(
            extract.set_up,
            recipe=recipe,
            parameters=layout.WEIGHTS_FILE.read_bytes(),
            calibration=None,
            batch_size=size,
        ),
        chunks=itertools.islice(chunks, CHUNKS),
        count=CHUNKS,
        environment=environment(catalogue.find(recipe.backbone), recipe.precision),
    )
    for _, chunk, _ in compute.ENGINES[name](runtime)(work):
        yield len(chunk.digests)


def rate(results: Iterator[int]) -> float:
    """Images per second over some results. Those that were waiting and those they make room for are not timed."""
    for _ in range(WAITING):
        next(results)
    begun = time.perf_counter()
    images = sum(next(results) for _ in range(TIMED))
    seconds = time.perf_counter() - begun
    # What is still on its way arrives now, not while the other engine is timed.
    time.sleep(1.5)
    return images / seconds


def alone(folder: str, count: int, reader: str, runtime: dict[str, object]) -> Fed:
    """:func:`feed` in a process of its own, whose memory is its own too."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(feed, folder, count, reader, runtime).result()


@contextlib.contextmanager
def client_server(wanted: bool) -> Iterator[None]:
    """A Ray cluster on this machine with a server for the Ray Client, if it is ``wanted``."""
    if not wanted:
        yield
        return
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": PORT}
    nodes: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield
    finally:
        nodes.shutdown()


def ceiling() -> None:
    """Prints what a driver can feed, by each engine."""
    engines: dict[str, dict[str, object]] = {
        "local": {"engine": "local"},
        "ray": {"engine": "ray", "ray_address": "local"},
        "ray://": {"engine": "ray", "ray_address": f"ray://127.0.0.1:{PORT}"},
    }
    print(
        f"| driver, files of {BYTES / 1e3:.0f} KB | read by | batch_size | cache | images/s "
        "| anonymous memory | mapped | grown per image |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with workspace([]), tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for number in range(MANY):
            Path(folder, f"{number:06}").write_bytes(rng.bytes(BYTES))
        for name, reader, batch_size, cache in DRIVERS:
            runtime = {**engines[name], "batch_size": batch_size, "cache": cache}
            with client_server(name == "ray://"):
                pairs = [[alone(folder, count, reader, runtime) for count in (FEW, MANY)] for _ in range(FEEDS)]
            rates = [many.rate for _, many in pairs]
            few, many = (Fed(*np.median(runs, axis=0)) for runs in zip(*pairs))
            print(
                f"| {name} | {reader} | {batch_size} | {'on disk' if cache == 'auto' else cache} "
                f"| {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) "
                f"| {few.anonymous:.0f} → {many.anonymous:.0f} MB | {few.mapped:.0f} → {many.mapped:.0f} MB "
                f"| {(many.anonymous - few.anonymous) * 1e3 / (MANY - FEW):.1f} KB |"
            )


def overhead() -> None:
    """Prints what Ray costs where the network is at work."""
    images = [encoded(photo(seed, (500, 375)), "JPEG", quality=90) for seed in range(PHOTOS)]
    firsts = []
    with workspace(images), contextlib.closing(forward("local")) as local, contextlib.closing(forward("ray")) as ray:
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
    ratios = sorted(by_ray / by_processes for by_processes, by_ray in rounds)
    quarter = ROUNDS // 4
    print(f"| ray / local | {statistics.median(ratios):.3f}, middle half {ratios[quarter]:.3f} to", end=" ")
    print(f"{ratios[-quarter - 1]:.3f} of {ROUNDS} | |")


def main() -> None:
    ceiling()
    overhead()


if __name__ == "__main__":
    main()
