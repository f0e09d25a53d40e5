"""From JPEG files on disk to features on disk: how near to the forward pass alone, over how many workers, in how much
memory: ``python -m bench.workers``.

A rate is that of the images that a longer run has more than a shorter one, so that what both need to start does not
count. The forward pass alone is that of ``bench.forward``, asked by turns with the runs.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.contest import CORES, Contestant, running
from bench.engine import BATCH
from bench.pictures import encoded, photo
from bench.prepare import different, prepare
from bench.table import Row, memory_row
from bench.workspace import DIM, run_featurize, workspace

ROUNDS = 3
# Images of the shorter and of the longer run; with Lite0 both after machine code has been loaded to resize them.
RUNS = {"efficientnet_lite0": (960, 2400), "vgg16": (16, 112)}
AIMS = {"efficientnet_lite0": 0.80, "vgg16": 0.95}
# Of the images for the memory: small, because only their number matters; whole batches, which need one graph.
FEW, MANY, SMALL = 960, 5120, (64, 48)


class Measured(NamedTuple):
    """Seconds of featurize, and the peak memory (MB) of the driver and of its largest child."""

    seconds: float
    driver: float
    worker: float


def measured(name: str, count: int, folder: Path, **runtime: object) -> Measured:
    """Featurizes ``count`` files of the folder (no cache) in a process of its own; runtime: changes to that section."""
    command = [sys.executable, "-m", "bench.workers", name, str(count), str(folder), json.dumps(runtime)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Measured(*json.loads(printed.splitlines()[-1]))


def featurize_alone(name: str, count: int, folder: Path, runtime: dict[str, object]) -> Measured:
    """What :func:`measured` runs."""
    photos = [path.read_bytes() for path in sorted((folder / "photos").iterdir())]
    with workspace(different(photos, count), folder / name, runtime=runtime):
        done, peaks = threading.Event(), {"driver": 0.0, "worker": 0.0}
        watching = threading.Thread(target=watch, args=(done, peaks))
        watching.start()
        seconds = run_featurize("off").seconds
        done.set()
        watching.join()
    return Measured(seconds, **peaks)


def watch(done: threading.Event, peaks: dict[str, float]) -> None:
    """Keeps the greatest memory (MB) of this process and of any of its children in ``peaks`` until ``done`` is set."""
    driver = psutil.Process()
    while not done.wait(0.2):
        peaks["driver"] = max(peaks["driver"], driver.memory_info().rss / 1e6)
        for child in driver.children():
            with contextlib.suppress(psutil.Error):
                peaks["worker"] = max(peaks["worker"], child.memory_info().rss / 1e6)


def rate(name: str, folder: Path, **runtime: object) -> float:
    """Images per second."""
    short, long = RUNS[name]
    seconds = [measured(name, count, folder, **runtime).seconds for count in (short, long)]
    return (long - short) / (seconds[1] - seconds[0])


def rows(folder: Path) -> Iterator[Row]:
    """Yields the rows of the table; ``folder`` is from ``prepare``."""
    for name, aim in AIMS.items():
        pairs = []
        with running(Contestant("headstart", CORES), name, "float32", folder) as alone:
            for _ in range(ROUNDS):
                pairs.append((rate(name, folder), alone(RUNS[name][1] // BATCH // CORES)))
        ratio = statistics.median(whole / forward for whole, forward in pairs)
        whole, forward = map(statistics.median, zip(*pairs))
        yield Row(f"{name} float32, JPEG to features / forward alone", whole, forward, "images/s", ratio, aim)
    one = None
    for workers in (1, 2, 3):
        found = statistics.median(rate("efficientnet_lite0", folder, workers=workers) for _ in range(ROUNDS))
        one = one or found
        yield Row(f"efficientnet_lite0 float32, {workers} workers / 1 worker", found, one, "images/s", found / one)
    yield from memory(folder)


def memory(folder: Path) -> Iterator[Row]:
    """The rows on memory."""
    with tempfile.TemporaryDirectory() as small:
        (Path(small) / "photos").mkdir()
        (Path(small) / "photos/0.jpg").write_bytes(encoded(photo(0, SMALL), "JPEG"))
        (Path(small) / "efficientnet_lite0").symlink_to(folder / "efficientnet_lite0")
        few, many = (measured("efficientnet_lite0", count, Path(small), workers=1) for count in (FEW, MANY))
    yield memory_row("the driver", (FEW, MANY), (few.driver, many.driver), DIM)
    yield memory_row("the worker", (FEW, MANY), (few.worker, many.worker), 0)


def main() -> None:
    if len(sys.argv) > 1:
        name, count, place, runtime = sys.argv[1:]
        print(json.dumps(featurize_alone(name, int(count), Path(place), json.loads(runtime))))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for row in rows(Path(folder)):
            print(row)


if __name__ == "__main__":
    main()
