"""All that compares headstart with others and with itself, in one run: ``make bench``.

Prints the table as it grows; writes it to docs/bench.md and draws it in docs/bench.png.
"""

import tempfile
from datetime import date
from itertools import chain
from pathlib import Path

from bench import files, forward, precision, table, training, workers
from bench.contest import CORES
from bench.prepare import prepare
from bench.stamps import stamp

DOCS = Path("docs")


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        for row in chain(
            files.rows(folder),
            forward.rows(folder),
            workers.rows(folder),
            training.rows(folder),
            precision.rows(),
        ):
            print(row, flush=True)
            found.append(row)
    heading = f"# Benchmarks\n\n`make bench` on {CORES} cores of {processor()}, {date.today()}.\n\n"
    (DOCS / "bench.md").write_text(f"{heading}![The ratios](bench.png)\n\n{table.markdown(found)}", encoding="utf-8")
    table.plot(found, DOCS / "bench.png")
    stamp(DOCS / "bench.png", [DOCS / "bench.md"])


def processor() -> str:
    """The name of the processor and what it has for the lower precisions."""
    lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    lines = {key.strip(): value.strip() for key, value in lines.items()}
    has = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni") if name in lines.get("flags", "").split()]
    return f"an {lines.get('model name', 'unknown processor')} ({', '.join(has)})"


if __name__ == "__main__":
    main()
