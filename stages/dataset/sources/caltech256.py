"""Caltech-256 (Griffin, Holub & Perona 2007): fetches the published archive, and reads its images where they lie in it.

The archive holds 30,607 images as ``256_ObjectCategories/<NNN>.<class>/<file>.jpg`` in 257 folders, the last of
which is ``257.clutter``, and a few other entries (``198.spider/RENAME2``, empty folders in ``056.dog``).
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Optional

from stages.common.caches.folders import user_cache
from stages.common.errors import InputError
from stages.common.settings.params import Dataset
from stages.dataset.sources.download import Published, fetch
from stages.dataset.sources.files import archives
from stages.dataset.sources.files.archives import Member
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import ARCHIVE, Place
from stages.dataset.sources.source import Listed, Listing, Source, listable

NAME = "256_ObjectCategories.tar"
PUBLISHED = Published(
    title="Caltech-256",
    name=NAME,
    url=f"https://data.caltech.edu/records/nyy15-4j048/files/{NAME}",
    md5="67b4f42ca05d46448c6bb8ecd2220f6d",
    variable="HEADSTART_CALTECH256",
)
CLUTTER = "clutter"
# The name starts with a letter or digit: never with a dot, so it is no path out of its folder.
_CLASS = re.compile(r"[0-9]{3}\.([A-Za-z0-9].*)")


def root(chosen: Dataset) -> str:
    """The folder that holds the archive."""
    return str(_archive(chosen).parent)


def missing(chosen: Dataset) -> Optional[str]:
    archive = _archive(chosen)
    return None if archive.is_file() else str(archive)


def _archive(chosen: Dataset) -> Path:
    """``chosen.path``, if the user has it there; else where it is downloaded to, in the user's cache folder."""
    own = Path(chosen.path).expanduser()
    return own if own.is_file() else user_cache() / "downloads" / NAME


def find(chosen: Dataset, index: Index) -> Listing:
    """Lists the images as they lie in the archive; a class is named without its number.

    Downloads the archive where it is nowhere, once. Its MD5 vouches for it, and is looked at again only where the file
    has changed. ``chosen.clutter`` false leaves out the class called so.

    Raises InputError if the archive is damaged, has no class, has two classes of one name, or has a member that it must
    not have (see :func:`stages.dataset.sources.files.archives.members`).
    """
    archive = _archive(chosen)
    if archive.suffix != ARCHIVE or not listable(archive.name):
        raise InputError(f"dataset.path: {str(archive)!r} does not end in {ARCHIVE}, or no list can hold its name")
    fetch(PUBLISHED, archive if archive.is_file() else archive.parent)
    classes = _classes(archives.members(str(archive), index), archive)
    if not chosen.clutter:
        classes.pop(CLUTTER, None)
    images = [
        Listed(f"{archive.name}/{member.name}", name, Place(str(archive), member.offset, member.size, member.name))
        for name, members in classes.items()
        for member in members
    ]
    return Listing(list(classes), images)


def _classes(members: Sequence[Member], archive: Path) -> dict[str, list[Member]]:
    """The images by class name, in the order of the classes' numbers."""
    images: dict[PurePosixPath, list[Member]] = {}
    for member in members:
        path = PurePosixPath(member.name)
        if len(path.parts) == 3 and path.suffix == ".jpg":
            images.setdefault(path.parent, []).append(member)
    classes: dict[str, list[Member]] = {}
    for folder in sorted(images, key=lambda folder: folder.name):
        match = _CLASS.fullmatch(folder.name)
        if match is None:
            continue
        name = match[1]
        if name in classes:
            raise InputError(f"{archive} has two classes named {name!r}, one of them {folder}: fetch {NAME} again")
        classes[name] = images[folder]
    if not classes:
        raise InputError(f"{archive} has no <folder>/<NNN>.<class>/*.jpg: fetch {NAME} again")
    return classes


def title(chosen: Dataset) -> str:
    return PUBLISHED.title


SOURCE = Source(root, missing, find, title, ["path", "clutter", "groups", "on_bad_image"])
