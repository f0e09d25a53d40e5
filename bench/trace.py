"""Where a worker's time goes from files to features: ``python -m bench.trace [PRECISION]``.

EfficientNet-Lite0 on JPEGs of 500×375, by ``featurize``'s own driver and workers. For each worker, of the time between
its third batch and its last: what it decoded and put into batches, what it waited for the network, what it waited for
the driver, and how busy its core was. On a CPU the network computes while the next batch is decoded, by the same core,
so only a core that is not busy is lost.
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
from bench.pictures import encoded, photo
from bench.prepare import PHOTOS
from bench.workspace import workspace
from stages.common.settings import params
from stages.dataset.files.places import Place
from stages.features import compute, extract, identity

NETWORK, BATCHES, BATCH = "efficientnet_lite0", 40, 32
# Batches of a worker that are left out: their graph is compiled, and Pillow resizes before machine code is loaded.
FIRST = 14


class Batch(NamedTuple):
    """When a worker began and ended to decode a batch and to wait for its features, and its seconds of CPU then."""

    begun: float
    decoded: float
    asked: float
    answered: float
    cpu: float


def set_up(device: str, threads: int, folder: Path, **given: Any) -> extract.Start:
    """As ``extract.set_up``; writes down every :class:`Batch` in a file of the process in ``folder``."""
    start = extract.set_up(device, threads, **given)

    def traced(chunk: extract.Chunk) -> extract.Finish:
        begun = time.perf_counter()
        finish = start(chunk)
        decoded = time.perf_counter()

        def finished() -> extract.Result:
            asked = time.perf_counter()
            result = finish()
            batch = Batch(begun, decoded, asked, time.perf_counter(), time.process_time())
            with open(folder / str(os.getpid()), "a") as file:
                print(json.dumps(batch), file=file)
            return result

        return finished

    return traced


def traces(precision: str) -> list[list[Batch]]:
    """Of each worker, its batches."""
    photos = [encoded(photo(seed, (500, 375)), "JPEG", quality=90) for seed in range(PHOTOS)]
    # A byte behind its end makes the same photo another.
    files = (photos[i % PHOTOS] + i.to_bytes(4, "big") for i in range(CORES * BATCHES * BATCH))
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
    return [[Batch(*json.loads(line)) for line in text.splitlines()][FIRST:] for text in texts]


def main() -> None:
    print("| worker | images/s | decoding | waiting for the network | for the driver | core busy |")
    print("|---|--:|--:|--:|--:|--:|")
    for number, batches in enumerate(traces(sys.argv[1] if len(sys.argv) > 1 else "float32")):
        whole = batches[-1].answered - batches[0].answered
        decoding = sum(batch.decoded - batch.begun for batch in batches[1:])
        waiting = sum(batch.answered - batch.asked for batch in batches[1:])
        busy = (batches[-1].cpu - batches[0].cpu) / whole
        shares = f"{decoding / whole:.1%} | {waiting / whole:.1%} | {1 - (decoding + waiting) / whole:.1%} | {busy:.1%}"
        print(f"| {number} | {(len(batches) - 1) * BATCH / whole:.0f} | {shares} |")


if __name__ == "__main__":
    main()
