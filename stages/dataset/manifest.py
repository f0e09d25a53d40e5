"""The manifest: what images the data set holds, where they lie in it, and the SHA-256 of each one's bytes.

A text file (UTF-8) of columns separated by tabs. The first line names them: ``path class sha256 bytes offset``, then
``group`` and ``split`` where the data set has such. Then comes a line for each image, in the order of the paths' parts,
so that a folder is in one piece. path: relative to the place of the data set, with "/", or what a list of the user's
names elsewhere: an absolute path, a URL, or one with "../" at its beginning; a member of an archive is
``<archive>/<member>``. sha256: hexadecimal. bytes: how many. offset: where in the archive they begin, or empty for a
file of its own.
"""

import io
import operator
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

from stages.common.disk import sums
from stages.common.disk.files import replacing
from stages.common.errors import InputError
from stages.common.settings.layout import SUBSETS

COLUMNS = ("path", "class", "sha256", "bytes", "offset")
OPTIONAL = ("group", "split")
HEADINGS = (COLUMNS, (*COLUMNS, "group"), (*COLUMNS, "split"), (*COLUMNS, *OPTIONAL))
# Bytes parsed at once: enough for few calls, and little beside what is kept of them.
BLOCK = 1 << 22

# What each field looks like.
_FIELDS = {
    "path": r"([^\t\n\r\0]+)",
    "class": r"([^\t\n\r]+)",
    "sha256": r"([0-9a-f]{64})",
    "bytes": r"([0-9]{1,18})",
    "offset": r"([0-9]{0,18})",
    "group": r"([^\t\n\r]*)",
    "split": rf"({'|'.join(SUBSETS)}|)",
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
    """Writes ``rows``, which come in their order, to ``path``, whole or not at all, and beside it its digest.

    Raises ValueError for a row that is not in its order, or does not have the optional columns of the first one.
    """
    rows = iter(rows)
    first = list(islice(rows, 1))
    more = [name for name in OPTIONAL for row in first if getattr(row, name) is not None]
    with replacing(path, unless_same=True) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join([*COLUMNS, *more]) + "\n")
        file.writelines(_lines(chain(first, rows), len(more)))
    sums.write([path])


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
    """The manifest at ``path``. Raises InputError where it is not as :func:`write` left it."""
    sums.check([path])
    with open(path, "rb") as file:
        return _parsed(file, path)


def find(path: Path, wanted: Collection[str]) -> list[Row]:
    """The rows of the images at the paths ``wanted``, those that are there. Raises InputError as :func:`read` does."""
    sums.check([path])
    with open(path, "rb") as file:
        heading, keys = file.readline(), {name.encode() for name in wanted}
        lines = [line for line in file if line.partition(b"\t")[0] in keys]
    return list(map(Row, *_parsed(io.BytesIO(heading + b"".join(lines)), path)))


def _parsed(file: BinaryIO, path: Path) -> Manifest:
    found = Manifest([], [], [], [], [], [], [])
    names: dict[str, str] = {}
    before = ""
    heading = tuple(file.readline().decode(errors="replace").rstrip("\n").split("\t"))
    if heading not in HEADINGS:
        raise _refused(path)
    line = re.compile("^" + r"\t".join(_FIELDS[name] for name in heading) + "$", re.MULTILINE)
    while block := file.read(BLOCK) + file.readline():
        rows = _rows(block, line, before)
        if rows is None:
            raise _refused(path)
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
    return found


def _refused(path: Path) -> InputError:
    return InputError(f"{path} is no manifest, or of another version of headstart: run `dvc repro`")


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
    winding = ".." in paths and any(_winds(path.split("/")) for path in paths.split("\n"))
    return rows if ascending and not winding else None


def _winds(parts: Sequence[str]) -> bool:
    """Whether a path goes up after it went down, or names no file."""
    down = list(dropwhile("..".__eq__, parts))
    return not down or ".." in down
