"""The rows of the benchmark's table, printed, as Markdown, and as a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

# Memory may grow by the features, and by so many bytes of an image's path, digest and place, which are kept with them;
# the aim leaves room for the allocator's moods.
KEPT, MEMORY_AIM = 1500, 0.97


class Row(NamedTuple):
    """Two measurements in ``unit``, their ``ratio`` (more is better), and the ratio to reach, if any."""

    what: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    aim: Optional[float] = None

    def __str__(self) -> str:
        met = "" if self.aim is None else f"  aim {self.aim:g}{'' if self.ratio >= self.aim else '  NOT MET'}"
        return f"{self.what:62} {self.ours:9.4g} {self.theirs:9.4g} {self.unit:9} {self.ratio:7.3f}{met}"


def memory_row(who: str, counts: tuple[int, int], peaks: tuple[float, float], dim: int) -> Row:
    """The row on the peak memory (MB) of ``who`` with few and with many images.

    counts, peaks: (with few, with many). dim: how many float16 numbers of every image ``who`` holds; 0 where it holds
    nothing of an image.
    """
    (few, many), (low, high) = counts, peaks
    allowed = low + (many - few) * (dim * 2 + KEPT) * (dim > 0) / 1e6
    what = f"peak memory of {who}, {many:,} images / {few:,}" + " and the others' features" * (dim > 0)
    return Row(what, high, allowed, "MB", allowed / high, MEMORY_AIM)


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = ["| | headstart | other | | ratio | aim |", "|---|---:|---:|---|---:|---:|"]
    for row in rows:
        aim = "" if row.aim is None else f"{row.aim:g}" if row.ratio >= row.aim else f"**{row.aim:g}, not met**"
        lines.append(f"| {row.what} | {row.ours:.4g} | {row.theirs:.4g} | {row.unit} | {row.ratio:.3f} | {aim} |")
    return "\n".join(lines) + "\n"


def read(text: str) -> list[Row]:
    """The rows of the table that :func:`markdown` wrote, as exact as they are there."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 6 and cells[0]:
            what, ours, theirs, unit, ratio, aim = cells
            reached = aim.strip("*").split(",")[0]
            rows.append(Row(what, float(ours), float(theirs), unit, float(ratio), float(reached) if reached else None))
    return rows


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws the ratios as bars, the aims as ticks, into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.28 * len(rows) + 1), layout="constrained")
    places = range(len(rows))
    met = [row.aim is None or row.ratio >= row.aim for row in rows]
    bars = axes.barh(places, [row.ratio for row in rows], color=["#3b7dd8" if good else "#d8803b" for good in met])
    axes.bar_label(bars, [f"{row.ratio:.3f}" for row in rows], padding=3, fontsize=8)
    for place, row in zip(places, rows):
        if row.aim is not None:
            axes.plot([row.aim] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.5)
    axes.set_xscale("log")
    axes.set_xticks([0.7, 1, 2, 4, 8, 16], ["0.7", "1", "2", "4", "8", "16"])
    axes.minorticks_off()
    axes.set_xlim(0.7, 1.5 * max(row.ratio for row in rows))
    axes.margins(y=0.01)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(places, [row.what for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ratio: more is better for headstart (black: the aim)")
    figure.savefig(path, dpi=130)
