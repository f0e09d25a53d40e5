"""A folder of tar archives: members ``<class>/<image>``, or images with a label beside them as WebDataset writes them.

By WebDataset's convention files of one key are one sample: ``<key>.jpg`` and its label in ``<key>.cls`` or
``<key>.txt``, or as ``"label"`` in ``<key>.json``; a key ends at the first dot of the file's name.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Optional

from stages.common.errors import InputError
from stages.common.progress import progress
from stages.common.settings.params import Dataset
from stages.dataset.sources import folder
from stages.dataset.sources.files import archives
from stages.dataset.sources.files.archives import LABELS, Member
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import ARCHIVE, Place
from stages.dataset.sources.files.stamps import Stamp
from stages.dataset.sources.files.stores import is_url
from stages.dataset.sources.source import Listed, Listing, Source, listable

# What is an image among the files of a sample that has a label.
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")


def find(chosen: Dataset, index: Index) -> Listing:
    """Lists the images in the archives that lie directly in ``chosen.path``; classes are in the order of their names.

    Raises InputError where there is no archive, or one is damaged or has a member that it must not have.
    """
    top = folder.root(chosen)
    found = _archives(top)
    if not found:
        raise InputError(f"there are no {ARCHIVE} files in {top}: `python -m stages.shards` packs a folder of images")
    images: list[Listed] = []
    for name, version in progress(found, desc="listing archives", leave=False):
        path = f"{top}/{name}"
        images += _images(path, name, archives.members(path, index, version))
    if not images:
        raise InputError(f"there are no images in the {ARCHIVE} files of {top}")
    versions = {f"{top}/{name}": version for name, version in found if version is not None}
    return Listing(sorted({image.class_name for image in images if not image.complaint}), images, versions)


def _archives(top: str) -> list[tuple[str, Optional[Stamp]]]:
    """The names of the archives in ``top``, sorted, and their versions in a store."""
    if is_url(top):
        from stages.dataset.sources.files import remote

        names = [(each.path, each.stamp) for each in remote.listed(top, deep=False)]
    elif Path(top).is_dir():
        names = [(name, None) for name in sorted(os.listdir(top))]
    else:
        raise InputError(f"dataset.path: there is no folder {top}")
    return [(name, stamp) for name, stamp in names if _is_archive(name)]


def _is_archive(name: str) -> bool:
    return name.endswith(ARCHIVE) and not name.startswith(".") and listable(name)


def _images(archive: str, name: str, members: Sequence[Member]) -> Iterator[Listed]:
    labels: dict[str, dict[str, Optional[str]]] = {}
    for member in members:
        suffix = PurePosixPath(member.name).suffix.lower()
        if suffix in LABELS:
            labels.setdefault(_key(member.name), {})[suffix] = member.label
    for member in members:
        path = PurePosixPath(member.name)
        beside = labels.get(_key(member.name), {})
        suffix = path.suffix.lower()
        if suffix in LABELS or path.name.startswith(".") or (beside and suffix not in IMAGES):
            continue
        label = next((beside[kind] for kind in LABELS if beside.get(kind)), None)
        if label is None and len(path.parts) == 2 and not beside:
            label = path.parts[0]
        place = Place(archive, member.offset, member.size, member.name)
        complaint = None
        if label is None:
            complaint = f"{place.name} has no label: neither a {', '.join(LABELS)} beside it, nor a folder of its class"
        elif not listable(label):
            complaint = f"{place.name} has a label with a tab or a line break in it"
        yield Listed(f"{name}/{member.name}", label or "", place, complaint)


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


SOURCE = Source(folder.root, folder.missing, find, folder.title, ["path", "groups", "on_bad_image"])
