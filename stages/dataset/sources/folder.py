"""A folder of the user's: ``<path>/<class>/<image>``."""

import os
from pathlib import Path

from stages.common.errors import InputError
from stages.common.params import Dataset
from stages.dataset.places import Place
from stages.dataset.sources.source import Listed, Listing, Source, listable


def root(chosen: Dataset) -> Path:
    """The folder itself; ``~`` is the user's home."""
    return Path(chosen.path).expanduser()


def reachable(chosen: Dataset) -> bool:
    return root(chosen).exists()


def find(chosen: Dataset) -> Listing:
    """Lists what lies in the folders of ``chosen.path``, one a class; hidden files are passed over.

    Raises InputError where there is nothing. A name that no list can hold is a complaint.
    """
    top = root(chosen)
    if not top.is_dir():
        raise InputError(f"dataset.path: there is no folder {top}")
    entries = _visible(top)
    folders = [name for name, is_folder in entries if is_folder]
    loose = len(entries) - len(folders)
    if loose:
        which = "1 file that lies" if loose == 1 else f"{loose} files that lie"
        print(f"passed over {which} directly in {top}, in no class")
    images = [_listed(top, folder, name) for folder in folders for name, _ in _visible(top / folder)]
    if not images:
        raise InputError(f"there are no images in {top}: put them there as {top}/<class>/<image>")
    return Listing(folders, images)


def _visible(folder: Path) -> list[tuple[str, bool]]:
    """(name, whether it is a folder) of what lies in ``folder``, sorted."""
    with os.scandir(folder) as entries:
        return sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))


def _listed(top: Path, folder: str, name: str) -> Listed:
    path = f"{folder}/{name}"
    place = Place(f"{top}/{path}")
    complaint = None
    if not listable(path):
        complaint = f"{place.path!r} has a tab, a line break or a byte that is not UTF-8 in its name: rename it"
    return Listed(path, folder, place, complaint)


def title(chosen: Dataset) -> str:
    """The folder's name."""
    return root(chosen).resolve().name


SOURCE = Source(root, reachable, find, title, ["path", "on_bad_image"])
