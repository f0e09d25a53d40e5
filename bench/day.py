"""The user's day at N images: ``python -m bench.day N [--against CHECKOUT]``.

What the user waits for after each of a day's changes, by the commands a user types, as a table: seconds in all, of
each stage, and of DVC around them. With ``--against``, another checkout of headstart does the same by turns, and the
last columns say how many times as fast this one is, training left out; the audit, which it may not have, is off.

The photos are 500×375 pixels, 40 KB each, and the network EfficientNet-Lite0. From 20,000 on, where only their number
matters, the photos are tiny, the network has 256 features, the head is trained for one epoch, and the features of those
that are there from the start are put into the feature cache beforehand (``bench.fill``); the audit is off.

Where GNU time is installed, the last table has each stage's greatest memory, all its processes' largest.
"""

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from bench.pictures import encoded, photo
from bench.project import ROOT, Project, clone
from bench.weights import save_random
from stages.common.progress import progress

CLASSES, BASES, TINY = 12, 120, 20_000
SMALL = "mobilenet0.25"
STAGES = ("images", "weights", "split", "featurize", "train", "audit", "evaluate")

# Stands in for python: notes when each command began and ended, and what memory it took at most, in KB.
SHIM = """#!/bin/sh
begun=$(date +%s.%N)
if [ -x /usr/bin/time ]; then /usr/bin/time -q -o "{log}.$$" -f %M "{python}" "$@"; else "{python}" "$@"; fi
code=$?
echo "$2 $begun $(date +%s.%N) $(cat "{log}.$$" 2> /dev/null || echo 0)" >> "{log}"
rm -f "{log}.$$"
exit $code
"""


class Times(NamedTuple):
    """Seconds of one event: in all, and of each stage that ran; memory: the most that each took, in MB."""

    total: float
    stages: dict[str, float]
    memory: dict[str, float]

    @property
    def dvc(self) -> float:
        """What is not spent in stages."""
        return self.total - sum(self.stages.values())

    @property
    def without_training(self) -> float:
        return self.total - self.stages.get("train", 0.0)


# Prepares what is to be timed, and returns it.
Event = Callable[["Day"], Callable[[], object]]


class Photos:
    """A folder of photos, all different: few pictures, each many times with another comment in its file."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.made = folder, 0
        self.digests: list[str] = []
        size = (500, 375) if count < TINY else (16, 12)
        self.bases = [encoded(photo(seed, size), "JPEG", quality=88) for seed in range(BASES)]
        for _ in progress(range(count), desc="making photos"):
            self.add()

    def add(self) -> Path:
        """Makes one more; returns its path."""
        base = self.bases[self.made % BASES]
        # A comment right after the start of the image, as the format has it.
        comment = b"\xff\xfe\x00\x0a" + self.made.to_bytes(8, "big")
        place = self.folder / f"class {self.made % CLASSES:02}" / f"{self.made:07}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        data = base[:2] + comment + base[2:]
        place.write_bytes(data)
        self.digests.append(hashlib.sha256(data).hexdigest())
        self.made += 1
        return place


class Day:
    """One checkout's clone, with photos of its own, and what happens to it."""

    def __init__(self, folder: Path, source: Path, count: int, *, audit: bool) -> None:
        self.count = count
        self.photos = Photos(folder / "photos", count)
        self.project = clone(folder / "project", source)
        self.log = folder / "times"
        python = shutil.which("python", path=self.project.environment["PATH"])
        (folder / "bin").mkdir()
        (folder / "bin/python").write_text(SHIM.format(python=python, log=self.log))
        (folder / "bin/python").chmod(0o755)
        self.project.environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{self.project.environment['PATH']}"
        self.project.set(dataset={"name": "folder", "path": str(self.photos.folder)})
        if not audit and (source / "stages/audit.py").exists():
            self.project.set(audit={"enabled": False})
        if count >= TINY:
            self._fill(folder)
        self.commit()

    def _fill(self, folder: Path) -> None:
        """As if the photos had been featurized, by a network of few features."""
        weights = save_random(SMALL, folder / "random.params")
        backbone = {"name": SMALL, "weights": "file", "path": str(weights)}
        self.project.set(backbone=backbone, train={"epochs": 1})
        self.project.run("dvc", "repro", "weights")
        digests = "".join(f"{digest}\n" for digest in self.photos.digests)
        self.project.run("python", "-m", "bench.fill", input=digests)

    def commit(self) -> None:
        self.project.run("git", "add", "-A")
        self.project.run("git", "commit", "-qm", "a day", "--allow-empty")

    def time(self, event: Event) -> Times:
        """Prepares an event, then runs and times what it returns."""
        wait = event(self)
        self.log.write_text("")
        begun = time.perf_counter()
        wait()
        total = time.perf_counter() - begun
        spent: dict[str, float] = defaultdict(float)
        memory: dict[str, float] = defaultdict(float)
        for line in self.log.read_text().splitlines():
            name, start, end, kilobytes = line.split()
            stage = name.rpartition(".")[2]
            spent[stage] += float(end) - float(start)
            memory[stage] = max(memory[stage], float(kilobytes) / 1000)
        return Times(total, {stage: spent[stage] for stage in STAGES if stage in spent}, memory)

    def repro(self) -> Callable[[], object]:
        return self.project.repro

    def experiment(self, *arguments: str) -> Callable[[], object]:
        return lambda: self.project.run("dvc", "exp", "run", *arguments)


def first(day: Day) -> Callable[[], object]:
    return day.repro()


def nothing(day: Day) -> Callable[[], object]:
    day.commit()
    return day.repro()


def one_more(day: Day) -> Callable[[], object]:
    day.photos.add()
    return day.repro()


def many_more(day: Day) -> Callable[[], object]:
    for _ in range(max(1, day.count // 100)):
        day.photos.add()
    return day.repro()


def one_removed(day: Day) -> Callable[[], object]:
    sorted(day.photos.folder.glob("*/*.jpg"))[0].unlink()
    return day.repro()


def one_renamed(day: Day) -> Callable[[], object]:
    path = sorted(day.photos.folder.glob("*/*.jpg"))[-1]
    path.rename(path.with_name("renamed.jpg"))
    return day.repro()


def class_renamed(day: Day) -> Callable[[], object]:
    (day.photos.folder / "class 00").rename(day.photos.folder / "class zero")
    return day.repro()


def another_seed(day: Day) -> Callable[[], object]:
    day.project.set(split={"seed": 1})
    return day.repro()


def rate_here(day: Day) -> Callable[[], object]:
    day.commit()
    return day.experiment("-S", "train.lr=0.02")


def rate_temp(day: Day) -> Callable[[], object]:
    day.project.run("git", "checkout", "-q", ".")
    day.project.run("dvc", "checkout", "-q")
    return day.experiment("--temp", "-S", "train.lr=0.03")


def rate_queued(day: Day) -> Callable[[], object]:
    day.project.run("dvc", "exp", "run", "--queue", "-S", "train.lr=0.04")
    return lambda: day.project.start_queue(queued=1, jobs=1)


def teammate(day: Day) -> Callable[[], object]:
    """Somebody without the images pulls what was pushed, and trains at another learning rate."""
    place = day.project.folder.parent
    # DVC's worker lives on for a while, and would write where all is removed in the end.
    day.project.run("dvc", "queue", "stop")
    day.project.run("dvc", "remote", "add", "-f", "-d", "--local", "store", str(place / "remote"))
    day.project.run("dvc", "push", "-q")
    shutil.rmtree(place / "mate", ignore_errors=True)
    day.project.run("git", "clone", "-q", ".", str(place / "mate"))
    mate = Project(place / "mate")
    mate.environment = {**day.project.environment, "HEADSTART_CACHE": str(place / "mate's cache")}
    mate.run("dvc", "remote", "add", "-f", "-d", "--local", "store", str(place / "remote"))
    mate.run("dvc", "pull", "-q")
    day.photos.folder.rename(place / "elsewhere")

    def wait() -> None:
        try:
            mate.run("dvc", "exp", "run", "-S", "train.lr=0.05")
        finally:
            (place / "elsewhere").rename(day.photos.folder)

    return wait


EVENTS: dict[str, Event] = {
    "first run": first,
    "nothing changed": nothing,
    "one image more": one_more,
    "one in a hundred more": many_more,
    "one removed": one_removed,
    "one renamed": one_renamed,
    "a class renamed": class_renamed,
    "split seed": another_seed,
    "learning rate": rate_here,
    "learning rate, --temp": rate_temp,
    "learning rate, queued": rate_queued,
    "a teammate without the images": teammate,
}


def row(name: str, times: Times, others: Sequence[Optional[Times]]) -> str:
    """A row of the table, in Markdown. others: what another checkout took, None where it cannot do this."""
    stages = [f"{times.stages[stage]:.1f}" if stage in times.stages else "" for stage in STAGES]
    cells = [name, f"{times.total:.1f}", *stages, f"{times.dvc:.1f}"]
    for other in others:
        ratio = "fails" if other is None else f"{other.without_training / times.without_training:.2f}"
        cells += ["" if other is None else f"{other.total:.1f}", ratio]
    return f"| {' | '.join(cells)} |"


def timed(day: Day, event: Event) -> Optional[Times]:
    """What ``event`` takes, or None where a command fails."""
    try:
        return day.time(event)
    except AssertionError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.day", description=__doc__.split(":")[0])
    parser.add_argument("images", type=int, nargs="?", default=1000)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout, to do the same by turns")
    given = parser.parse_args()
    if given.against and given.images >= TINY:
        parser.error(f"another checkout would have to compute the features: --against needs fewer than {TINY} images")

    with tempfile.TemporaryDirectory() as place:
        sources = [ROOT] if given.against is None else [ROOT, given.against]
        audit = len(sources) == 1 and given.images < TINY
        days = [
            Day(Path(place, str(number)), source, given.images, audit=audit) for number, source in enumerate(sources)
        ]
        heading = ["seconds", "in all", *STAGES, "DVC", *(["other", "ratio without training"] * (len(days) - 1))]
        print(f"| {' | '.join(heading)} |\n|---{'|--:' * (len(heading) - 1)}|")
        memory: dict[str, float] = defaultdict(float)
        for name, event in EVENTS.items():
            ours = days[0].time(event)
            for stage, most in ours.memory.items():
                memory[stage] = max(memory[stage], most)
            print(row(name, ours, [timed(day, event) for day in days[1:]]), flush=True)
        if any(memory.values()):
            print(f"\n| memory, MB | {' | '.join(STAGES)} |\n|---{'|--:' * len(STAGES)}|")
            print(f"| most | {' | '.join(f'{memory[stage]:.0f}' for stage in STAGES)} |")


if __name__ == "__main__":
    main()
