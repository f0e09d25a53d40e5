"""A folder of the user's, here or in a store: ``<path>/<class>/<image>``."""

import os
from pathlib import Path
from typing import Optional

from stages.common.errors import InputError
from stages.common.settings.params import Dataset
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import FOLDER, Place
from stages.dataset.sources.files.stores import is_url
from stages.dataset.sources.source import Listed, Listing, Source, listable, located


def root(chosen: Dataset) -> str:
    """The folder itself."""
    return located(chosen)


def missing(chosen: Dataset) -> Optional[str]:
    top = root(chosen)
    return None if is_url(top) or Path(top).exists() else top


def find(chosen: Dataset, index: Index) -> Listing:
    """Lists what lies in the folders of ``chosen.path``; see :func:`listing`."""
    return listing(root(chosen))


def listing(top: str) -> Listing:
    """Lists what lies in the folders of ``top``, one a class; hidden files are passed over.

    Raises InputError where there is nothing. A name that no list can hold is a complaint.
    """
    found = _in_store(top) if is_url(top) else _here(top)
    if not found.images:
        raise InputError(f"there are no images in {top}: put them there as {top}/<class>/<image>")
    return found


def _here(top: str) -> Listing:
    if not Path(top).is_dir():
        raise InputError(f"dataset.path: there is no folder {top}")
    entries = _visible(top)
    folders = [name for name, is_folder in entries if is_folder]
    _report_loose(top, len(entries) - len(folders))
    return Listing(
        folders, [_listed(top, folder, name) for folder in folders for name, _ in _visible(f"{top}/{folder}")]
    )


def _in_store(top: str) -> Listing:
    from stages.dataset.sources.files import remote

    names = {
        each.path: each.stamp
        for each in remote.listed(top)
        if not any(part.startswith(".") for part in each.path.split("/")[:2])
    }
    _report_loose(top, sum("/" not in name for name in names))
    images = {}
    for name in names:
        folder, *rest = name.split("/")
        if rest:
            image = _listed(top, folder, rest[0])._replace(class_name=remote.plain(folder, top))
            complaint = f"{image.place.name} {FOLDER}" if len(rest) > 1 else image.complaint
            images[image.path] = image._replace(complaint=complaint)
    classes = sorted({image.class_name for image in images.values()})
    versions = {f"{top}/{name}": stamp for name, stamp in names.items() if stamp is not None}
    return Listing(classes, list(images.values()), versions)


def _report_loose(top: str, loose: int) -> None:
    if loose:
        which = "1 file that lies" if loose == 1 else f"{loose} files that lie"
        print(f"passed over {which} directly in {top}, in no class")


def _visible(folder: str) -> list[tuple[str, bool]]:
    """(name, whether it is a folder) of what lies in ``folder``, sorted."""
    with os.scandir(folder) as entries:
        return sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))


def _listed(top: str, folder: str, name: str) -> Listed:
    path = f"{folder}/{name}"
    place = Place(f"{top}/{path}")
    complaint = None
    if not listable(path):
        complaint = f"{place.path!r} has a tab, a line break or a byte that is not UTF-8 in its name: rename it"
    return Listed(path, folder, place, complaint)


def title(chosen: Dataset) -> str:
    """The folder's name."""
    top = root(chosen)
    return top.rpartition("/")[2] if is_url(top) else Path(top).resolve().name


SOURCE = Source(root, missing, find, title, ["path", "groups", "on_bad_image"])
