"""Where a worker's time goes from files to features: ``python -m bench.trace [PRECISION]``.

EfficientNet-Lite0 on JPEGs of 500×375, by ``featurize``'s own driver and workers. For each worker, once the first
batches are over: the share of its time in which it decoded and put images into batches, in which it waited for the
network, in which it waited for the driver, and how busy its core was.
"""

import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.contest import CORES
from bench.prepare import different, photos
from bench.workspace import workspace
from stages.common.settings import params
from stages.dataset.sources.files.places import Place
from stages.features import compute, extract, identity

BATCHES, BATCH = 40, 32
# Batches of a worker that are left out: their graph is compiled, and Pillow resizes before machine code is loaded.
# The last ones are answered without another in between.
FIRST, LAST = 14, -2


class Batch(NamedTuple):
    """When a worker answered, and until then: its seconds of CPU, of decoding and of the network."""

    answered: float
    cpu: float
    decode: float
    forward: float


def set_up(device: str, threads: int, folder: Path, **given: Any) -> extract.Start:
    """As ``extract.set_up``; writes down every :class:`Batch` in a file of the process in ``folder``."""
    start = extract.set_up(device, threads, **given)

    def traced(chunk: extract.Chunk) -> extract.Finish:
        finish = start(chunk)

        def finished() -> extract.Result:
            result = finish()
            batch = Batch(time.perf_counter(), time.process_time(), result.decode, result.forward)
            with open(folder / str(os.getpid()), "a") as file:
                print(json.dumps(batch), file=file)
            return result

        return finished

    return traced


def traces(precision: str) -> list[list[Batch]]:
    """Of each worker, its batches."""
    files = different(photos(), CORES * BATCHES * BATCH)
    chosen, runtime = {"precision": precision}, {"cache": "off", "batch_size": BATCH}
    with tempfile.TemporaryDirectory() as folder, workspace(files, featurize=chosen, runtime=runtime) as here:
        given = params.load()
        places = [Place(str(path)) for path in sorted(here.rglob("class/*"))]
        compute.compute(
            places,
            identity.current("auto", given.featurize, given.runtime.cache),
            given.runtime,
            lambda count, dim: np.empty((count, dim), np.float32),
            setup=partial(set_up, folder=Path(folder)),
        )
        texts = [path.read_text() for path in sorted(Path(folder).iterdir())]
    return [[Batch(*json.loads(line)) for line in text.splitlines()][FIRST:LAST] for text in texts]


def main() -> None:
    print("| worker | images/s | decoding | the network | the driver | core busy |")
    print("|---|--:|--:|--:|--:|--:|")
    for number, batches in enumerate(traces(sys.argv[1] if len(sys.argv) > 1 else "float32")):
        whole = batches[-1].answered - batches[0].answered
        decoding, computing = (sum(each) / whole for each in list(zip(*batches[1:]))[2:])
        busy = (batches[-1].cpu - batches[0].cpu) / whole
        shares = f"{decoding:.1%} | {computing:.1%} | {1 - decoding - computing:.1%} | {busy:.1%}"
        print(f"| {number} | {(len(batches) - 1) * BATCH / whole:.0f} | {shares} |")


if __name__ == "__main__":
    main()
