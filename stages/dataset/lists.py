"""MXNet's list format: one image per line, ``index \\t label \\t path`` with the path as in the manifest."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stages.common.disk import sums
from stages.common.disk.files import write_text
from stages.common.settings.layout import SPLIT


class Row(NamedTuple):
    """index: key of the image's record in its subset; label: number of its class; path: as in the manifest."""

    index: int  # type: ignore[assignment]  # hides the tuple's method of that name
    label: int
    path: str


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes ``rows`` to the list file ``path``, and beside it its digest."""
    write_text(path, "".join(f"{row.index}\t{row.label}\t{row.path}\n" for row in rows))
    sums.write([path])


def read(subset: str) -> list[Row]:
    """The rows of ``data/split/<subset>.lst``. Raises InputError where it is not as :func:`write` left it."""
    path = SPLIT / f"{subset}.lst"
    sums.check([path], "run `dvc repro -f split`")
    with open(path, encoding="utf-8", newline="\n") as lines:
        fields = (line.rstrip("\n").split("\t") for line in lines)
        return [Row(int(index), int(label), image) for index, label, image in fields]
