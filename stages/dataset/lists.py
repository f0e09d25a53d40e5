"""MXNet's list format: one image per line, ``index \\t label \\t path`` with the path as in the manifest."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stages.common.errors import InputError
from stages.common.files import write_text
from stages.common.layout import SPLIT


class Row(NamedTuple):
    """index: key of the image's record in its subset; label: number of its class; path: as in the manifest."""

    index: int  # type: ignore[assignment]  # hides the tuple's method of that name
    label: int
    path: str


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes ``rows`` to the list file ``path``."""
    write_text(path, "".join(f"{row.index}\t{row.label}\t{row.path}\n" for row in rows))


def read(subset: str) -> list[Row]:
    """The rows of ``data/split/<subset>.lst``. Raises InputError naming the line that is not ``index label path``."""
    path = SPLIT / f"{subset}.lst"
    rows = []
    with open(path, encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                index, label, image = line.rstrip("\n").split("\t")
                rows.append(Row(int(index), int(label), image))
            except ValueError:
                raise InputError(f"{path}, line {number}: not `index, label, path` separated by tabs") from None
    return rows
