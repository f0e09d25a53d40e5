"""From JPEG files on disk to features on disk: how near to the forward pass alone, over how many workers, in how much
memory: ``python -m bench.workers``.

A rate is that of the images that a longer run has more than a shorter one, so that what both need to start does not
count. The forward pass alone is that of ``bench.forward``, asked by turns with the runs.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import yaml

from bench import forward
from bench.pictures import encoded, photo
from bench.reuse import DIM, run, workspace
from bench.table import Row, memory_row
from stages.common import params
from stages.features.store import VARIABLE

ROUNDS = 3
# Images of the shorter and of the longer run.
RUNS = {"efficientnet_lite0": (160, 1120), "vgg16": (16, 112)}
AIMS = {"efficientnet_lite0": 0.80, "vgg16": 0.95}
# Of the images for the memory: small, because only their number matters; whole batches, which need one graph.
FEW, MANY, SMALL = 320, 3200, (64, 48)


def measured(name, count, folder, **runtime):
    """Featurizes ``count`` files of the folder (no cache) in a process of its own; returns what it prints as JSON."""
    command = [sys.executable, "-m", "bench.workers", name, str(count), str(folder), json.dumps(runtime)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def featurize_alone(name, count, folder, runtime):
    """What :func:`measured` runs: prints seconds and peak memory (MB) of the driver and of its largest child."""
    os.environ[VARIABLE] = "off"
    photos = [path.read_bytes() for path in sorted((Path(folder) / "photos").iterdir())]
    # The same photo twice would go through the network once; a byte behind its end makes it another.
    files = (photos[i % len(photos)] + i.to_bytes(4, "big") for i in range(count))
    with workspace(files, name, Path(folder, f"{name}.params").resolve()):
        given = yaml.safe_load(Path(params.FILE).read_text())
        given["runtime"].update(runtime)
        Path(params.FILE).write_text(yaml.safe_dump(given))
        done, peaks = threading.Event(), {"driver": 0.0, "worker": 0.0}
        watching = threading.Thread(target=watch, args=(done, peaks))
        watching.start()
        seconds = run("off")["seconds"]
        done.set()
        watching.join()
    print(json.dumps({"seconds": seconds, **peaks}))


def watch(done, peaks):
    """Keeps the greatest memory (MB) of this process and of any of its children in ``peaks`` until ``done`` is set."""
    driver = psutil.Process()
    while not done.wait(0.2):
        peaks["driver"] = max(peaks["driver"], driver.memory_info().rss / 1e6)
        for child in driver.children():
            with contextlib.suppress(psutil.Error):
                peaks["worker"] = max(peaks["worker"], child.memory_info().rss / 1e6)


def rate(name, folder, **runtime):
    short, long = RUNS[name]
    seconds = [measured(name, count, folder, **runtime)["seconds"] for count in (short, long)]
    return (long - short) / (seconds[1] - seconds[0])


def rows(folder):
    """Yields the rows of the table; ``folder`` is from ``forward.prepare``."""
    for name, aim in AIMS.items():
        pairs = []
        with forward.engine("headstart", name, "float32", "pixels", forward.CORES, folder) as alone:
            for _ in range(ROUNDS):
                pairs.append((rate(name, folder), alone(RUNS[name][1] // forward.BATCH // forward.CORES)))
        ratio = statistics.median(a / b for a, b in pairs)
        medians = map(statistics.median, zip(*pairs))
        yield Row(f"{name} float32, JPEG to features / forward alone", *medians, "images/s", ratio, aim)
    one = None
    for workers in (1, 2, 3):
        found = statistics.median(rate("efficientnet_lite0", folder, workers=workers) for _ in range(ROUNDS))
        one = one or found
        yield Row(f"efficientnet_lite0 float32, {workers} workers / 1 worker", found, one, "images/s", found / one)
    with tempfile.TemporaryDirectory() as small:
        (Path(small) / "photos").mkdir()
        (Path(small) / "photos/0.jpg").write_bytes(encoded(photo(0, SMALL), "JPEG"))
        (Path(small) / "efficientnet_lite0.params").symlink_to(folder / "efficientnet_lite0.params")
        few, many = (measured("efficientnet_lite0", count, small, workers=1) for count in (FEW, MANY))
    for who, dim in {"driver": DIM, "worker": 0}.items():
        yield memory_row(f"the {who}", (FEW, MANY), (few[who], many[who]), dim)


def main():
    if len(sys.argv) > 1:
        name, count, folder, runtime = sys.argv[1:]
        return featurize_alone(name, int(count), folder, json.loads(runtime))
    with tempfile.TemporaryDirectory() as folder:
        forward.prepare(Path(folder))
        for row in rows(Path(folder)):
            print(row)


if __name__ == "__main__":
    main()
