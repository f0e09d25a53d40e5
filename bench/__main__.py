"""All that compares headstart with others and with itself: ``make bench``, or ``python -m bench SECTION…`` for a part.

Prints every table as it grows; puts it in its section of docs/bench.md, and draws them all in docs/bench.png.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from bench import files, forward, precision, table, training, workers
from bench.contest import CORES
from bench.prepare import prepare
from bench.stamps import stamp
from bench.table import Row

DOCS = Path("docs")
HEADING = """\
# Benchmarks

`make bench` makes all of this, `python -m bench SECTION…` a part of it. The second number is that of whom headstart is
compared with, and the ratio of both more than 1 where headstart is ahead.

![The ratios](bench.png)
"""


class Section(NamedTuple):
    """What is compared, and what measures it in a folder from ``prepare``."""

    title: str
    rows: Callable[[Path], Iterable[Row]]


SECTIONS = {
    "files": Section("From JPEG files to features", files.rows),
    "forward": Section("The forward pass alone", forward.rows),
    "workers": Section("Workers, and their memory", workers.rows),
    "training": Section("Training", training.rows),
    "precision": Section("Accuracy of the precisions", lambda _: precision.rows()),
}


def main(names: Sequence[str]) -> None:
    path = DOCS / "bench.md"
    texts = dict(_read(path.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        for name in names:
            rows = []
            for row in SECTIONS[name].rows(Path(place)):
                print(row, flush=True)
                rows.append(row)
            texts[name] = written(name, rows)
            path.write_text("\n".join([HEADING, *(texts[each] for each in SECTIONS if each in texts)]), "utf-8")
    draw(path)


def draw(path: Path) -> None:
    """Draws all tables of docs/bench.md."""
    picture = path.with_suffix(".png")
    table.plot(table.read(path.read_text(encoding="utf-8")), picture)
    stamp(picture, [path])


def written(name: str, rows: Sequence[Row]) -> str:
    """A section as Markdown."""
    machine = f"{CORES} cores of {processor()}, {date.today()}"
    return f"## {SECTIONS[name].title}\n\n`python -m bench {name}` on {machine}.\n\n{table.markdown(rows)}"


def _read(text: str) -> Iterator[tuple[str, str]]:
    """The sections that :func:`written` wrote, by name."""
    for part in text.split("\n## ")[1:]:
        title = part.split("\n", 1)[0]
        yield from ((name, f"## {part}") for name, section in SECTIONS.items() if section.title == title)


def processor() -> str:
    """The name of the processor and what it has for the lower precisions."""
    lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    lines = {key.strip(): value.strip() for key, value in lines.items()}
    has = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni") if name in lines.get("flags", "").split()]
    return f"an {lines.get('model name', 'unknown processor')} ({', '.join(has)})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("sections", metavar="SECTION", nargs="*", help=", ".join(SECTIONS))
    given = parser.parse_args().sections
    if unknown := sorted(set(given) - set(SECTIONS)):
        parser.error(f"there is no section {unknown[0]}: there are {', '.join(SECTIONS)}")
    main(given or list(SECTIONS))
