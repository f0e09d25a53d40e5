"""What headstart's settings for speed gain on CPUs of several kinds: ``python -m bench.settings``.

This CPU plays the lesser ones, by a limit to oneDNN's instruction sets. For each, the forward pass on one core in
float32, against the same without one of the settings; all by turns, and what counts is the median of the rounds'
ratios. More than 1: the setting gains.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bench.instruction_sets import BATCH, SETS
from stages.backend import cpu

NETWORKS = ("efficientnet_lite0", "resnet18")
ROUNDS = 7
NO_LIMIT = ""
ALL = "all"
# What is left out: the limit to AVX512_MIC, channels filled up to 16, images turned upside down.
WITHOUT = ("limit", "filling", "rotation")

# Of a process that is ready: runs a batch.
prepared: dict[str, Callable[[], Any]] = {}


def ready(name: str, limit: str, without: str) -> None:
    """Prepares this process, which has not loaded MXNet yet, for :func:`seconds`."""
    from stages.backbones import catalogue
    from stages.inference.environment import environment

    variables = environment(catalogue.find(name), "float32")
    if without == "limit":
        variables.pop(cpu.SUITED, None)
    os.environ.update(variables | ({cpu.LIMITS[0]: limit} if limit else {}))
    prepared["forward"] = _forward(name, without)


def _forward(name: str, without: str) -> Callable[[], Any]:
    from bench import prepare
    from stages.backbones import catalogue
    from stages.inference import graph, simplify

    if without == "filling":
        simplify.CHANNELS = 1
    if without == "rotation":
        graph.gains_by_rotation = lambda symbol, shape: False
    size = catalogue.find(name).size
    batch = np.random.default_rng(0).standard_normal((BATCH, 3, size, size), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        prepare.save_weights(name, Path(folder))
        compiled = prepare.ready(name, "float32", BATCH, Path(folder))
    compiled(batch).asnumpy()
    return lambda: compiled(batch).asnumpy()


def seconds() -> float:
    """That a batch takes."""
    begun = time.perf_counter()
    prepared["forward"]()
    return time.perf_counter() - begun


def compared(name: str, limit: str) -> dict[str, list[float]]:
    """{what is left out: the seconds of each round}, by turns."""
    with ExitStack() as stack:
        pools = {
            each: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), ready, (name, limit, each)))
            for each in (ALL, *WITHOUT)
        }
        for pool in pools.values():
            pool.submit(seconds).result()
        found: dict[str, list[float]] = {each: [] for each in pools}
        for _ in range(ROUNDS):
            for each, pool in pools.items():
                found[each].append(pool.submit(seconds).result())
    return found


def lines() -> Iterator[str]:
    """The table, in Markdown."""
    yield f"| network | CPU | images/s | {' | '.join(f'{each} gains' for each in WITHOUT)} |"
    yield "|---|---|--:|--:|--:|--:|"
    for name in NETWORKS:
        for limit in (*(each for each in SETS if each in cpu.instruction_sets({})), NO_LIMIT):
            found = compared(name, limit)
            rate = BATCH / statistics.median(found[ALL])
            gains = (statistics.median(b / a for a, b in zip(found[ALL], found[each])) for each in WITHOUT)
            cells = " | ".join(f"{gain:.2f}" for gain in gains)
            yield f"| {name} | {limit or cpu.best({}) + ', no limit'} | {rate:.0f} | {cells} |"


def main() -> None:
    for line in lines():
        print(line, flush=True)


if __name__ == "__main__":
    main()
