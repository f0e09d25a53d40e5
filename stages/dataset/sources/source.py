"""What a source of images is: a module of functions that knows one kind of data set, where it lies."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from stages.common.params import Dataset
from stages.dataset.places import Place


class Listed(NamedTuple):
    """An image that the data set lists.

    path: relative to the data set's root, as in the manifest. complaint: what is known to be wrong with it.
    """

    path: str
    class_name: str
    place: Place
    complaint: Optional[str] = None


def listable(name: str) -> bool:
    """Whether the manifest and the lists can hold ``name``: UTF-8 without a tab, a line break or a NUL."""
    try:
        return not set("\t\n\r\0") & set(name.encode().decode())
    except UnicodeEncodeError:
        return False


class Listing(NamedTuple):
    """What a data set lists, nothing of it read yet. classes: their names, in the order of their labels."""

    classes: list[str]
    images: list[Listed]


class Source(NamedTuple):
    """root(chosen): the folder to which paths are relative; it need not be there.

    reachable(chosen): whether the images are to be had here. find(chosen): lists them, and fetches what it must.
    Raises InputError where they are not as they should be. title(chosen): what people call the data set.
    keys: those of the section ``dataset`` in params.yaml that make a difference to it, but for ``name``.
    """

    root: Callable[[Dataset], Path]
    reachable: Callable[[Dataset], bool]
    find: Callable[[Dataset], Listing]
    title: Callable[[Dataset], str]
    keys: Sequence[str]
