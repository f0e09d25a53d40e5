"""The commands in README.md with what they print: run again in the order they stand there, compared, written anew."""

import re
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, Optional

from bench.project import ROOT, Project, clone

CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# A line of a transcript that stands for any others.
ANY = "…"
STORE = "/mnt/team/store"
# What a reader has on the screen, and a file has not; what is already done here; what depends on what was recorded.
UNSEEN = re.compile(r"\w+: +\d+%\||Updating lock file|making \.venv with |MXNet [\d.]+, \d+ GPUs")
# In place of what installs or activates, and of what needs a terminal.
INSTEAD = {
    "make repro": "dvc repro",
    "source .venv/bin/activate": ":",
    "make setup": ":",
    r"pip install [^&]*": ":",
}
# What differs from run to run and machine to machine.
VARIES = [
    (r"\b[0-9a-f]{7}\b", "<commit>"),
    (r"\b[0-9a-f]{12}\b", "<digest>"),
    (r"\d\d:\d\d [AP]M", "<time>"),
    (r"[\d.]+ GB of at most [\d.]+ GB", "<size>"),
    (r"README\.md: [\d,]+ bytes", "README.md: <size>"),
    (r"[\d,]+  image files known", "<count> image files known"),
    # Heads that learn at once on the same cores differ in the fourth digit.
    (r"(\d\.\d{3})\d+", r"\1"),
    (r"(metrics/timing\.json\s+\w+).*", r"\1 <time>"),
    (r"(  |─)(  |─)+", r"\1"),
    (r"\s+", " "),
]
SECONDS = "seconds_per_epoch"


class Step(NamedTuple):
    """A command, what it must print, and where in the text that is: [start, end)."""

    command: str
    printed: list[str]
    start: int
    end: int


def steps(text: str) -> Iterator[Step]:
    """The commands in a Markdown file, in order."""
    for block in CONSOLE.finditer(text):
        place = block.start(1)
        for part in re.split(r"^(?=\$ )", block[1], flags=re.MULTILINE):
            command, _, printed = part.partition("\n")
            if command.startswith("$ "):
                start = place + len(command) + 1
                yield Step(re.sub(r"\s{2,}# .*", "", command[2:]), printed.splitlines(), start, place + len(part))
            place += len(part)


class Reader:
    """Somebody who types the commands.

    folder: where all of it happens: homes, clones and the store. of_commit: whether what is cloned is the last commit,
    or all that is in the working tree.
    """

    def __init__(self, folder: Path, of_commit: bool = False) -> None:
        self.folder, self._of_commit, self._clones = folder, of_commit, 0
        self._origin = folder / "origin"
        self.project: Optional[Project] = None

    def run(self, command: str) -> list[str]:
        """The lines that the command prints; fails where it does."""
        if command.startswith("git clone "):
            self.project = self._clone()
            return []
        assert self.project is not None
        if command.startswith("dvc queue start"):
            return self.project.run_queue().splitlines()
        for pattern, other in INSTEAD.items():
            command = re.sub(f"{pattern}(?= *&&|$)", other, command)
        script = f"set -e -o pipefail\n{command.replace(STORE, str(self.folder / 'store'))}"
        printed = self.project.run("bash", "-c", script)
        printed = printed.replace(str(self._home), "/home/me").replace(str(self.folder / "store"), STORE)
        # Each state of a progress bar begins a line.
        lines = re.sub(r"\n(\n\w+: +\d+%\|.*)+", "", printed).splitlines()
        return _sorted([line.rstrip() for line in lines if not UNSEEN.match(line)])

    @property
    def _home(self) -> Path:
        return self.folder / f"home{self._clones}"

    def _publish(self) -> None:
        """Makes the repository that others clone, with the one branch main."""
        source = ROOT
        if not self._of_commit:
            source = clone(self.folder / "source").folder
        for command in (
            ["git", "clone", "-q", "--bare", str(source), str(self._origin)],
            ["git", "-C", str(self._origin), "update-ref", "refs/heads/main", "HEAD"],
            ["git", "-C", str(self._origin), "symbolic-ref", "HEAD", "refs/heads/main"],
        ):
            subprocess.run(command, check=True)

    def _clone(self) -> Project:
        """A clone of headstart, and a home without caches, as each of the team has."""
        if not self._clones:
            self._publish()
        self._clones += 1
        self._home.mkdir()
        place = self._home / "headstart"
        subprocess.run(["git", "clone", "-q", str(self._origin), str(place)], check=True)
        project = Project(place)
        for variable in ("HEADSTART_CACHE", "XDG_CACHE_HOME"):
            project.environment.pop(variable, None)
        project.environment.update(HOME=str(self._home), COLUMNS="132", GIT_CONFIG_NOSYSTEM="1")
        for key, value in (("user.name", "me"), ("user.email", "me@example.com")):
            project.run("git", "config", key, value)
        return project


def _sorted(lines: list[str]) -> list[str]:
    """``lines`` with those of metrics in the files' order: DVC has them in any."""
    files = ["metrics/train.json", "metrics/test.json", "metrics/timing.json"]
    places = [place for place, line in enumerate(lines) if line.split(" ")[0] in files]
    rows = sorted((lines[place] for place in places), key=lambda line: files.index(line.split(" ")[0]))
    for place, row in zip(places, rows):
        lines[place] = row
    return lines


def masked(lines: list[str]) -> list[str]:
    """``lines`` without what differs from run to run."""
    found, column = [], slice(0)
    for line in lines:
        if SECONDS in line and "Experiment" in line:
            column = slice(line.index(SECONDS), line.index(SECONDS) + len(SECONDS))
        elif line[column].strip().replace(".", "").isdigit():
            line = f"{line[: column.start]} <time> {line[column.stop :]}"
        for pattern, mask in VARIES:
            line = re.sub(pattern, mask, line)
        found.append(line.strip())
    return found


def fits(wanted: list[str], printed: list[str]) -> bool:
    """Whether ``printed`` is ``wanted``, where ``ANY`` stands for any lines, or for the rest of its line."""
    return _places(masked(wanted), masked(printed)) is not None


def renewed(wanted: list[str], printed: list[str]) -> list[str]:
    """``wanted`` with the numbers in ``printed``. Raises ValueError where more than numbers differ."""
    places = _places(_shapes(wanted), _shapes(printed))
    if places is None:
        raise ValueError("\n".join(["this no longer fits:", *wanted, "to what is printed:", *printed]))
    lines = [
        line if place is None else _cut(printed[place], len(line.split()) - 1) if line.endswith(ANY) else printed[place]
        for line, place in zip(wanted, places)
    ]
    # The rules above and below a table are as long as its rows.
    width = max((len(line) for line in lines if set(line) - set(" ─")), default=0)
    return [line if set(line) - set(" ─") else line[:width] for line in lines]


def _shapes(lines: list[str]) -> list[str]:
    """``lines`` without their numbers."""
    return [line if UNSEEN.match(line) else re.sub(r"[\d.,]*\d|[-+](?=\d)", "#", line) for line in masked(lines)]


def _cut(line: str, words: int) -> str:
    """The first so many words of ``line``, and ``ANY``."""
    found = re.match(rf"\s*(\S+\s+){{{words}}}", line)
    return line if found is None else found[0] + ANY


def _places(wanted: list[str], printed: list[str]) -> Optional[list[Optional[int]]]:
    """For each line of ``wanted`` which of ``printed`` it is, None for what need not be there; None if it is not so."""
    places: list[Optional[int]] = []
    position, free = 0, False
    for line in wanted:
        if line == ANY or UNSEEN.match(line):
            free |= line == ANY
            places.append(None)
            continue
        end = len(printed) if free else position + 1
        found = (place for place in range(position, min(end, len(printed))) if _same(line, printed[place]))
        place = next(found, None)
        if place is None:
            return None
        places.append(place)
        position, free = place + 1, False
    return places if free or not any(printed[position:]) else None


def _same(wanted: str, printed: str) -> bool:
    return printed.startswith(wanted[: -len(ANY)]) if wanted.endswith(ANY) else wanted == printed


def difference(wanted: list[str], printed: list[str]) -> str:
    """What to say where they do not fit."""
    same = list(takewhile(lambda pair: pair[0] == pair[1], zip(masked(wanted), masked(printed))))
    return "\n".join(["README.md says", *wanted, f"and after {len(same)} lines alike there is", *printed])
