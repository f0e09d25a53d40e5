"""What a source of images is: a module of functions that knows one kind of data set, where it lies."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Optional

from stages.common.settings.params import Dataset
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import Place
from stages.dataset.sources.files.stamps import Stamp
from stages.dataset.sources.files.stores import is_url

# Surrogates stand for bytes of a name that are not UTF-8.
_UNFIT = re.compile("[\t\n\r\0\ud800-\udfff]")


class Listed(NamedTuple):
    """An image that the data set lists.

    path: relative to the data set's root, as in the manifest. complaint: what is known to be wrong with it.
    group, split: as in the manifest, "" where it has none; None in every image of the data set or in no one.
    """

    path: str
    class_name: str
    place: Place
    complaint: Optional[str] = None
    group: Optional[str] = None
    split: Optional[str] = None


def located(chosen: Dataset) -> str:
    """Where ``dataset.path`` is: a URL, or a path of which ``~`` is the user's home."""
    return chosen.path.rstrip("/") if is_url(chosen.path) else str(Path(chosen.path).expanduser())


def listable(name: str) -> bool:
    """Whether the manifest and the lists can hold ``name``: UTF-8 without a tab, a line break or a NUL."""
    return _UNFIT.search(name) is None


class Listing(NamedTuple):
    """What a data set lists, nothing of it read yet. classes: their names, in the order of their labels.

    versions: the stamps of objects in a store, by URL; local files are looked at.
    """

    classes: list[str]
    images: list[Listed]
    versions: Mapping[str, Stamp] = MappingProxyType({})


class Source(NamedTuple):
    """root(chosen): the folder, or its URL, to which paths are relative; it need not be there.

    missing(chosen): what of it is not to be had here, or None. find(chosen, index): lists the images, and fetches
    what it must. Raises InputError where they are not as they should be. title(chosen): what people call the data set.
    keys: those of the section ``dataset`` in params.yaml that make a difference to it, but for ``name``.
    """

    root: Callable[[Dataset], str]
    missing: Callable[[Dataset], Optional[str]]
    find: Callable[[Dataset, Index], Listing]
    title: Callable[[Dataset], str]
    keys: Sequence[str]
