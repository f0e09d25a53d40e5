"""The manifest: what images the data set holds, where they lie in it, and the SHA-256 of each one's bytes.

A text file (UTF-8) of columns separated by tabs. The first line names them: ``path class sha256 bytes offset``, then
``group`` and ``split`` where the data set has such. Then comes a line for each image, in the order of the paths' parts,
so that a folder is in one piece. path: relative to the place of the data set, with "/"; a member of an archive is
``<archive>/<member>``. sha256: hexadecimal. bytes: how many. offset: where in the archive they begin, or empty for a
file of its own.
"""

import io
import operator
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

from stages.common import collector
from stages.common.errors import InputError
from stages.common.files import replacing
from stages.common.layout import SUBSETS

COLUMNS = ("path", "class", "sha256", "bytes", "offset")
OPTIONAL = ("group", "split")
HEADINGS = (COLUMNS, (*COLUMNS, "group"), (*COLUMNS, "split"), (*COLUMNS, *OPTIONAL))
# Bytes parsed at once: enough for few calls, and little beside what is kept of them.
BLOCK = 1 << 22

# What each field looks like, and how to say that it does not.
_FIELDS = {
    "path": (r"(?!/)([^\t\n\r\0]+)", "the path {!r} is not within the data set"),
    "class": (r"([^\t\n\r]+)", "the class {!r} is no name"),
    "sha256": (r"([0-9a-f]{64})", "the digest {!r} is not 64 hexadecimal digits"),
    "bytes": (r"([0-9]{1,18})", "the number of bytes is {!r}"),
    "offset": (r"([0-9]{0,18})", "the offset is {!r}"),
    "group": (r"([^\t\n\r]*)", "the group {!r} is no name"),
    "split": (rf"({'|'.join(SUBSETS)}|)", "the split {!r} is not " + ", ".join(SUBSETS)),
}


class Row(NamedTuple):
    """One image. The texts have no tab, line break or lone surrogate, the path no NUL.

    offset: None for a file of its own. group, split: "" where this image has none; None in every row or in no row.
    """

    path: str
    class_name: str
    sha256: str
    size: int
    offset: Optional[int] = None
    group: Optional[str] = None
    split: Optional[str] = None


class Manifest(NamedTuple):
    """A manifest by columns, all of one length, as in :class:`Row`; ``map(Row, *manifest)`` are its rows."""

    paths: list[str]
    class_names: list[str]
    digests: list[str]
    sizes: list[int]
    offsets: list[Optional[int]]
    groups: list[Optional[str]]
    splits: list[Optional[str]]


def order(path: str) -> str:
    """The key to sort paths by: their parts, as pathlib does."""
    return path.replace("/", "\0")


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes ``rows``, which come in their order, to ``path``, whole or not at all.

    Raises ValueError for a row that is not in its order, or does not have the optional columns of the first one.
    """
    rows = iter(rows)
    first = list(islice(rows, 1))
    more = [name for name in OPTIONAL for row in first if getattr(row, name) is not None]
    with replacing(path, unless_same=True) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join([*COLUMNS, *more]) + "\n")
        file.writelines(_lines(chain(first, rows), len(more)))


def _lines(rows: Iterable[Row], more: int) -> Iterator[str]:
    before = ""
    for row in rows:
        key = order(row.path)
        if key <= before:
            raise ValueError(f"{row.path!r} is out of order")
        before = key
        optional = [field for field in (row.group, row.split) if field is not None]
        if len(optional) != more:
            raise ValueError(f"{row.path!r} does not have the columns of the first row")
        offset = "" if row.offset is None else row.offset
        line = f"{row.path}\t{row.class_name}\t{row.sha256}\t{row.size}\t{offset}"
        yield "\t".join([line, *optional]) + "\n" if optional else f"{line}\n"


def read(path: Path) -> Manifest:
    """The manifest at ``path``. Raises InputError naming the line that is not as :func:`write` writes it."""
    with _opened(path) as file, collector.off():
        return _parsed(file, path)


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro`") from None


def _parsed(file: BinaryIO, path: Path) -> Manifest:
    found = Manifest([], [], [], [], [], [], [])
    names: dict[str, str] = {}
    before, number = "", 1
    heading = tuple(file.readline().decode(errors="replace").rstrip("\n").split("\t"))
    if heading not in HEADINGS:
        raise InputError(f"{path}, line 1: not the heading of a manifest: run `dvc repro`")
    line = re.compile("^" + r"\t".join(_FIELDS[name][0] for name in heading) + "$", re.MULTILINE)
    while block := file.read(BLOCK) + file.readline():
        rows = _rows(block, line, before)
        if rows is None:
            lines, what = _fault(block, heading, before)
            raise InputError(f"{path}, line {number + lines}: {what}: run `dvc repro`")
        columns = dict(zip(heading, zip(*rows)))
        found.paths.extend(columns["path"])
        # One string for each class, not for each image.
        found.class_names.extend(map(names.setdefault, columns["class"], columns["class"]))
        found.digests.extend(columns["sha256"])
        found.sizes.extend(map(int, columns["bytes"]))
        found.offsets.extend(int(offset) if offset else None for offset in columns["offset"])
        found.groups.extend(columns.get("group", [None] * len(rows)))
        found.splits.extend(columns.get("split", [None] * len(rows)))
        before = order(found.paths[-1])
        number += len(rows)
    return found


def find(path: Path, wanted: Collection[str]) -> list[Row]:
    """The rows of the images at the paths ``wanted``, those that are there; the others are not looked at.

    Raises InputError as :func:`read` does.
    """
    with _opened(path) as file:
        heading, keys = file.readline(), {name.encode() for name in wanted}
        lines = [line for line in file if line.partition(b"\t")[0] in keys]
    try:
        return list(map(Row, *_parsed(io.BytesIO(heading + b"".join(lines)), path)))
    except InputError:
        read(path)  # says which line of the whole file it is
        raise


def _rows(block: bytes, line: "re.Pattern[str]", before: str) -> Optional[list[tuple[str, ...]]]:
    """The fields of the lines in ``block``, or None where any is wrong. before: key of the path in the line before."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    rows: list[tuple[str, ...]] = line.findall(text)
    if len(rows) != text.count("\n") or not text.endswith("\n"):
        return None
    paths = "\n".join([row[0] for row in rows])
    keys = [before, *order(paths).split("\n")]
    ascending = all(map(operator.lt, keys, islice(keys, 1, None)))
    return rows if ascending and not (".." in paths and any(map(_leads_out, paths.split("\n")))) else None


def _leads_out(path: str) -> bool:
    return ".." in path.split("/")


def _fault(block: bytes, heading: Sequence[str], before: str) -> tuple[int, str]:
    """The number of the first line in ``block`` that is wrong, from 1, and what is wrong with it."""
    for number, line in enumerate(block.split(b"\n"), 1):
        try:
            fields = line.decode().split("\t")
        except UnicodeDecodeError:
            return number, "not UTF-8"
        if len(fields) != len(heading):
            return number, f"not {len(heading)} columns separated by tabs"
        for name, field in zip(heading, fields):
            pattern, complaint = _FIELDS[name]
            if not re.fullmatch(pattern, field) or (name == "path" and _leads_out(field)):
                return number, complaint.format(field[:100])
        key = order(fields[0])
        if key <= before:
            return number, f"the path {fields[0]!r} comes twice" if key == before else f"{fields[0]!r} is out of order"
        before = key
    return number, "cut short"
