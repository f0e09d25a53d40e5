"""Tables that users write: CSV, or TSV, with a line that names the columns."""

import csv
import io
from collections.abc import Sequence

from stages.common.errors import InputError
from stages.dataset.sources.source import listable


def parsed(name: str, data: bytes, needed: Sequence[str], optional: Sequence[str] = ()) -> list[dict[str, str]]:
    """The lines of the table ``data``, by column and without the spaces around; "line" is the number of each in it.

    name: of the file, for messages; columns are separated by tabs where that ends in ``.tsv``, else by commas.
    needed, optional: names of the columns, in any order; in the needed ones nothing is empty.
    Raises InputError with the number of the first line that is not so.
    """
    try:
        # A table may begin with the mark that Excel writes.
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), _dialect(name), strict=True)
        heading = [column.strip() for column in next(lines, [])]
        _check(name, heading, needed, optional)
        rows = []
        for fields in lines:
            if not fields:
                continue
            if len(fields) != len(heading):
                raise InputError(
                    f"{name}, line {lines.line_num}: {len(fields)} fields, not {len(heading)} as in line 1"
                )
            row = dict(zip(heading, map(str.strip, fields)), line=str(lines.line_num))
            for column in heading:
                if not listable(row[column]) or (column in needed and not row[column]):
                    what = "has a tab, a line break or a NUL in it" if row[column] else "is empty"
                    raise InputError(f"{name}, line {lines.line_num}: {column} {what}")
            rows.append(row)
    except UnicodeDecodeError:
        raise InputError(f"{name} is not text in UTF-8: save it as that") from None
    except csv.Error as error:
        raise InputError(f"{name}, line {lines.line_num}: {error}") from None
    return rows


def _dialect(name: str) -> type[csv.Dialect]:
    return csv.excel_tab if name.lower().endswith(".tsv") else csv.excel


def _check(name: str, heading: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> None:
    wanted = f"the first line names the columns {', '.join(needed)}"
    wanted += f", and perhaps {', '.join(optional)}" if optional else ""
    for column in needed:
        if column not in heading:
            raise InputError(f"{name} has no column {column}: {wanted}")
    for column in heading:
        if column not in [*needed, *optional]:
            raise InputError(f"{name} has a column {column[:100]!r} that means nothing here: {wanted}")
        if heading.count(column) > 1:
            raise InputError(f"{name} has two columns {column}: {wanted}")
