"""How fast every backbone is: ``python -m bench.rates [NETWORK…]``, images per second of the forward pass.

Random weights, batches of 16, a process on each core; float32 and bfloat16. Prints Markdown.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.contest import CORES
from bench.instruction_sets import BATCH
from bench.prepare import computable, ready, save_weights
from stages.backbones.catalogue import BACKBONES
from stages.inference.environment import environment

PRECISIONS = ("float32", "bfloat16")
SECONDS = 2.5


def rate(name: str, precision: str, folder: Path) -> float:
    """Images per second of one process, which has not loaded MXNet yet, for ``SECONDS``."""
    os.environ.update(environment(BACKBONES[name], precision))
    size = BACKBONES[name].size
    batch = np.random.default_rng(0).standard_normal((BATCH, 3, size, size), np.float32)
    forward = ready(name, precision, BATCH, folder)
    forward(batch).asnumpy()
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        forward(batch).asnumpy()
        count += BATCH
    return count / (time.perf_counter() - begun)


def rates(name: str) -> list[float]:
    """Of all cores together, by precision that this CPU can compute."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(save_weights, name, folder).result()
        found = []
        for precision in filter(computable, PRECISIONS):
            with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
                found.append(sum(pool.map(rate, *zip(*[(name, precision, folder)] * CORES))))
        return found


def main(names: Sequence[str]) -> None:
    print("| network |", " | ".join(filter(computable, PRECISIONS)), "|\n|---|--:|--:|")
    for name in names or BACKBONES:
        print(f"| `{name}` |", " | ".join(f"{each:.3g}" for each in rates(name)), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
