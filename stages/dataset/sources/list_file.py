"""A table of the user's: a line for each image, with its path and class, and perhaps its group and split."""

import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.common.errors import InputError
from stages.common.settings.layout import SUBSETS
from stages.common.settings.params import Dataset, holds_secret
from stages.dataset.sources import folder
from stages.dataset.sources.files import tables
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import Place, read, within
from stages.dataset.sources.files.stamps import Stamp
from stages.dataset.sources.files.stores import is_url
from stages.dataset.sources.source import Listed, Listing, Source, located

NEEDED = ("path", "class")
OPTIONAL = ("group", "split")


def root(chosen: Dataset) -> str:
    """The folder that the table lies in."""
    return posixpath.dirname(located(chosen)) or "."


def find(chosen: Dataset, index: Index) -> Listing:
    """Lists what the table at ``chosen.path`` names; classes are in the order of their names.

    Raises InputError where there is no such table, or one of its lines is not as it should be.
    """
    table = located(chosen)
    if not is_url(table) and not Path(table).is_file():
        raise InputError(f"dataset.path: there is no table {table}: a CSV or TSV file with the columns path and class")
    images = list(_images(read(Place(table))[0], chosen))
    if not images:
        raise InputError(f"{table} lists no images: a line for each, with its path and class")
    return Listing(sorted({image.class_name for image in images}), images, _versions(images))


def _versions(images: Sequence[Listed]) -> dict[str, Stamp]:
    urls = [image.place.path for image in images if is_url(image.place.path)]
    if not urls:
        return {}
    from stages.dataset.sources.files import remote

    return remote.stamps(urls)


def _images(data: bytes, chosen: Dataset) -> Iterator[Listed]:
    lines: dict[str, str] = {}
    top = root(chosen)
    for row in tables.parsed(located(chosen), data, NEEDED, OPTIONAL):
        here = f"{located(chosen)}, line {row['line']}"
        if holds_secret(row["path"]):
            raise InputError(f"{here}: a password or signature is in the path: credentials come from the environment")
        path = row["path"] if is_url(row["path"]) else posixpath.normpath(row["path"])
        if lines.setdefault(path, row["line"]) != row["line"]:
            raise InputError(f"{here} lists {path}, which line {lines[path]} lists too: take one of them out")
        if row.get("split", "") not in ("", *SUBSETS):
            raise InputError(f"{here}: split must be {', '.join(SUBSETS)} or empty (got {row['split'][:100]!r})")
        yield Listed(path, row["class"], within(top, path, 0, None), group=row.get("group"), split=row.get("split"))


def title(chosen: Dataset) -> str:
    """The table's name."""
    return posixpath.basename(located(chosen))


SOURCE = Source(root, folder.missing, find, title, ["path", "groups", "on_bad_image"])
