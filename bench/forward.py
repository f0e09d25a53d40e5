"""The forward pass against PyTorch, ONNX Runtime and OpenVINO, on the same cores: ``python -m bench.forward``.

Every engine is a process of its own (headstart's workers are one per core) that lives through the comparison; they
are asked by turns, and what counts is the median of the rounds' ratios. Peers that can run in several ways run in
each. Needs `.venv-peers` (`make bench` makes it). ``python -m bench.forward NETWORK…`` compares others, of
``bench.prepare.FURTHER``.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import joblib

from bench.engine import BATCH
from bench.prepare import FURTHER, NETWORKS, PEERS, computable, prepare
from bench.table import Row
from stages.backbones.catalogue import BACKBONES
from stages.inference.environment import environment

Contestant = tuple[str, int]  # engine, processes; the threads of each are its share of the cores
Rate = Callable[[int], float]  # runs so many batches in each process; returns images per second

CORES = joblib.cpu_count(only_physical_cores=True)
ROUNDS, SECONDS = 7, 1.0

FLOAT32: Sequence[Contestant] = (
    ("torch", 1),
    ("torch_channels_last", 1),
    ("onnxruntime", 1),
    ("onnxruntime", CORES),
    ("openvino", 1),
    ("openvino_throughput", 1),
)
BFLOAT16: Sequence[Contestant] = (("torch_channels_last", 1), ("openvino", 1), ("openvino_throughput", 1))
INT8: Sequence[Contestant] = (("onnxruntime", 1), ("onnxruntime", CORES), ("openvino", 1), ("openvino_throughput", 1))
AGAINST = {"float32": FLOAT32, "bfloat16": BFLOAT16, "int8": INT8}
ALL = ("torch", "torch_channels_last", "onnxruntime", "openvino")
# What headstart is to reach, as a multiple of each peer's rate.
AIMS = {
    ("efficientnet_lite0", "float32"): {"torch_channels_last": 3.0, "openvino": 1.0, "onnxruntime": 1.0},
    ("efficientnet_lite0", "bfloat16"): {"openvino": 1.0},
    ("efficientnet_lite0", "int8"): {"onnxruntime": 1.0, "openvino": 1.0},
    ("vgg16", "float32"): {"torch": 1.0, "torch_channels_last": 1.0, "onnxruntime": 1.0, "openvino": 1.0},
    ("vgg16", "bfloat16"): {"openvino": 0.95},
    ("vgg16", "int8"): {"onnxruntime": 1.0},
    **{("resnet50", precision): dict.fromkeys(ALL, 1.0) for precision in ("float32", "bfloat16")},
    **{
        (network, precision): dict.fromkeys(ALL, 0.9)
        for network in FURTHER
        if network != "resnet50"
        for precision in ("float32", "bfloat16")
    },
}


@contextmanager
def running(name: str, network: str, precision: str, source: str, processes: int, folder: Path) -> Iterator[Rate]:
    """Starts an engine (see ``bench.engine``) in so many processes."""
    python, variables = str(PEERS), dict(os.environ)
    threads = str(max(1, CORES // processes))
    if name == "headstart":
        python = sys.executable
        variables |= environment(BACKBONES[network], precision)
    command = [python, "bench/engine.py", name, network, precision, source, threads, str(folder)]
    variables |= {"OMP_NUM_THREADS": threads, "PYTHONPATH": os.getcwd()}
    started = [_Process(command, variables) for _ in range(processes)]
    try:
        for process in started:
            if process.answer() != "ready\n":
                raise RuntimeError(f"{name} does not start: {' '.join(command)}")

        def rate(count: int) -> float:
            begun = time.perf_counter()
            for process in started:
                process.tell(str(count))
            for process in started:
                process.answer()
            return processes * count * BATCH / (time.perf_counter() - begun)

        yield rate
    finally:
        for process in started:
            process.end()


class _Process:
    """A process that is told something by lines and answers by lines."""

    def __init__(self, command: Sequence[str], variables: dict[str, str]) -> None:
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, env=variables, stdin=pipe, stdout=pipe, stderr=none, text=True)

    def tell(self, line: str) -> None:
        print(line, file=self._process.stdin, flush=True)

    def answer(self) -> str:
        """The next line, with its end; empty when the process is over."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def compare(
    network: str, precision: str, source: str, contestants: Sequence[Contestant], folder: Path
) -> dict[Contestant, list[float]]:
    """Runs the contestants by turns; returns the rates (images per second) of each, one for each round."""
    with ExitStack() as stack:
        rates = {
            each: stack.enter_context(running(each[0], network, precision, source, each[1], folder))
            for each in contestants
        }
        # A round of each takes about as long, and at least one batch.
        counts = {each: max(1, round(SECONDS * rate(1) / BATCH / each[1])) for each, rate in rates.items()}
        found: dict[Contestant, list[float]] = {each: [] for each in contestants}
        for _ in range(ROUNDS if network != "vgg16" else 3):
            for each, rate in rates.items():
                found[each].append(rate(counts[each]))
    return found


def rows(folder: Path, source: str = "pixels", networks: Sequence[str] = NETWORKS) -> Iterator[Row]:
    """Yields the rows of the table: headstart against every peer, and bfloat16 and int8 against float32."""
    own: dict[tuple[str, str], float] = {}
    for network, (precision, peers) in itertools.product(networks, AGAINST.items()):
        if not computable(precision, network) or (source == "files" and precision != "float32"):
            continue
        ours = ("headstart", CORES)
        found = compare(network, precision, source, [ours, *peers], folder)
        own[network, precision] = statistics.median(found[ours])
        for peer in peers:
            ratio = statistics.median(a / b for a, b in zip(found[ours], found[peer]))
            aim = (
                AIMS.get((network, precision), {}).get(peer[0].replace("_throughput", ""))
                if source == "pixels"
                else None
            )
            processes = f" × {peer[1]}" if peer[1] > 1 else ""
            what = f"{network} {precision}{' from JPEG' if source == 'files' else ''} / {peer[0]}{processes}"
            yield Row(what, own[network, precision], statistics.median(found[peer]), "images/s", ratio, aim)
        if precision != "float32" and source == "pixels":
            pair = own[network, precision], own[network, "float32"]
            aim = 1.5 if (network, precision) == ("efficientnet_lite0", "bfloat16") else None
            yield Row(f"{network} {precision} / its own float32", *pair, "images/s", pair[0] / pair[1], aim)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        networks = sys.argv[1:] or NETWORKS
        prepare(Path(folder), networks)
        for row in rows(Path(folder), networks=networks):
            print(row)


if __name__ == "__main__":
    main()
