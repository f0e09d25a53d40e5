"""Engines that do the same work by turns, on the same cores, each a process of its own or several."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

import joblib

from bench.engine import BATCH
from bench.prepare import PEERS
from bench.table import Row
from stages.backbones.catalogue import BACKBONES
from stages.inference.environment import environment

Rate = Callable[[int], float]  # runs so many batches in each process; returns images per second

CORES = joblib.cpu_count(only_physical_cores=True)
SECONDS = 1.0


class Contestant(NamedTuple):
    """An engine of ``bench.engine`` in so many processes, the threads of each being its share of the cores.

    source: what it computes on, as ``bench.engine`` takes it.
    """

    engine: str
    processes: int = 1
    source: str = "pixels"

    def __str__(self) -> str:
        return self.engine + (f" × {self.processes}" if self.processes > 1 else "")


@contextmanager
def running(contestant: Contestant, network: str, precision: str, folder: Path) -> Iterator[Rate]:
    """Starts a contestant, in a folder from ``bench.prepare``."""
    name, processes, source = contestant
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


def row(
    what: str, found: dict[Contestant, list[float]], ours: Contestant, theirs: Contestant, aim: Optional[float] = None
) -> Row:
    """How ``ours`` did against ``theirs`` in what :func:`compare` found: medians of the rates, and of their ratios."""
    ratios = [a / b for a, b in zip(found[ours], found[theirs])]
    rate, other, ratio = map(statistics.median, (found[ours], found[theirs], ratios))
    return Row(what, rate, other, "images/s", ratio, aim)


def compare(
    network: str, precision: str, contestants: Sequence[Contestant], rounds: int, folder: Path
) -> dict[Contestant, list[float]]:
    """Runs the contestants by turns; returns the rates (images per second) of each, one for each round."""
    with ExitStack() as stack:
        rates = {each: stack.enter_context(running(each, network, precision, folder)) for each in contestants}
        # A round of each takes about as long, and at least one batch.
        counts = {each: max(1, round(SECONDS * rate(1) / BATCH / each.processes)) for each, rate in rates.items()}
        found: dict[Contestant, list[float]] = {each: [] for each in contestants}
        for _ in range(rounds):
            for each, rate in rates.items():
                found[each].append(rate(counts[each]))
    return found
