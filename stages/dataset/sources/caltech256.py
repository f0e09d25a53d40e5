"""Caltech-256 (Griffin, Holub & Perona 2007): fetches the published archive and unpacks its images.

The archive holds 30,607 images as ``256_ObjectCategories/<NNN>.<class>/<file>.jpg`` in 257 folders, the last of
which is ``257.clutter``, and a few other entries (``198.spider/RENAME2``, empty folders in ``056.dog``).
"""

import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import platformdirs

from stages.common.errors import InputError
from stages.common.params import Dataset
from stages.dataset.sources.download import Published, byte_bar, fetch

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

# The images by class name.
Classes = Mapping[str, Sequence[tarfile.TarInfo]]


def lay_out(chosen: Dataset, destination: Path) -> list[str]:
    """Unpacks Caltech-256 into ``destination``; returns its class names in the published order.

    ``chosen.path`` is the archive, if the user has it; anything else means to download it, once, into the user's cache
    folder. The archive's MD5 vouches for the images.
    """
    own = Path(chosen.path)
    archive = fetch(PUBLISHED, own if own.is_file() else platformdirs.user_cache_path("headstart") / "downloads")
    names = extract(archive, destination, chosen.clutter)
    print(f"caltech256: {sum(1 for _ in destination.glob('*/*'))} images of {len(names)} classes")
    return names


def extract(archive: Path, destination: Path, clutter: bool = True) -> list[str]:
    """Unpacks the images to ``destination/<class>/<file>``; returns the class names in the order of their numbers.

    A class is named without its number; ``clutter=False`` leaves out the one called so. ``destination`` is replaced,
    and not touched before everything has been unpacked beside it.

    Raises InputError if the archive is damaged, has no class, has two classes of one name, or has a member that
    is a link or a device or lies outside of the archive's own folder.
    """
    part = destination.with_name(f"{destination.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    try:
        with tarfile.open(archive, "r:") as tar:
            classes = _classes(_members(tar, archive), archive)
            if not clutter:
                classes.pop(CLUTTER, None)
            _write(tar, classes, part)
        if destination.exists():
            shutil.rmtree(destination)
        part.rename(destination)
    except tarfile.TarError as error:
        raise InputError(f"{archive} is damaged or no tar archive ({error}): delete it and fetch it again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return list(classes)


def _members(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    """Every member of ``tar``, once all are known to be plain files or folders inside of it."""
    members = tar.getmembers()
    # tarfile takes a header that is cut off or damaged for the end of the archive; the true end is a block of zeros.
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends too early")
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
            raise InputError(
                f"{archive} has the member {member.name!r}, which is a link or a device or lies outside of the "
                "archive's folder, so nothing was unpacked: fetch the archive again from where you trust it"
            )
    return members


def _classes(members: Sequence[tarfile.TarInfo], archive: Path) -> dict[str, list[tarfile.TarInfo]]:
    """The images by class name, in the order of the classes' numbers."""
    images: dict[PurePosixPath, list[tarfile.TarInfo]] = {}
    for member in members:
        path = PurePosixPath(member.name)
        if member.isreg() and len(path.parts) == 3 and path.suffix == ".jpg":
            images.setdefault(path.parent, []).append(member)
    classes: dict[str, list[tarfile.TarInfo]] = {}
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


def _write(tar: tarfile.TarFile, classes: Classes, folder: Path) -> None:
    with byte_bar("unpack", sum(image.size for images in classes.values() for image in images)) as bar:
        for name, images in classes.items():
            (folder / name).mkdir(parents=True)
            for image in images:
                content = tar.extractfile(image)
                assert content is not None  # it is a plain file
                with open(folder / name / PurePosixPath(image.name).name, "wb") as file:
                    shutil.copyfileobj(content, file)
                bar.update(image.size)
