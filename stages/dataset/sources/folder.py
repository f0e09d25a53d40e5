"""A folder of the user's: ``<path>/<class>/<image>``."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Optional

from stages.common.errors import InputError
from stages.common.params import Dataset
from stages.common.progress import progress
from stages.dataset.decode import decode


def lay_out(chosen: Dataset, destination: Path) -> list[str]:
    """Links the images of ``<chosen.path>/<class>/`` into ``<destination>/<class>/``; returns the sorted class names.

    Hidden files are passed over. What is not a readable image raises InputError naming it, or, with ``on_bad_image``
    "skip", is left out and reported. Raises InputError where fewer than two classes hold images.
    """
    source = Path(chosen.path)
    files = _files(source)
    complaints = _check(files)
    bad = [complaint for complaint in complaints if complaint]
    if bad and chosen.on_bad_image == "fail":
        more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
        raise InputError(f"{bad[0]}{more}; mend or remove it, or set dataset.on_bad_image: skip")
    for complaint in bad:
        print(f"skipped: {complaint}")
    good = [path for path, complaint in zip(files, complaints) if complaint is None]
    print(f"{source}: {len(good)} images" + (f", {len(bad)} skipped" if bad else ""))

    names = _classes(source, good)
    for name in names:
        (destination / name).mkdir()
    for path in good:
        _link(path, destination / path.parent.name / path.name)
    return names


def _files(source: Path) -> list[Path]:
    """What lies in the folders of ``source``, sorted; says how many files lie in none of them."""
    if not source.is_dir():
        raise InputError(f"dataset.path: there is no folder {source}")
    loose = sum(path.is_file() for path in _visible(source))
    if loose:
        which = "1 file that lies" if loose == 1 else f"{loose} files that lie"
        print(f"passed over {which} directly in {source}, in no class")
    files = [path for folder in _visible(source) if folder.is_dir() for path in _visible(folder)]
    if not files:
        raise InputError(f"there are no images in {source}: put them there as {source}/<class>/<image>")
    return files


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _classes(source: Path, good: Sequence[Path]) -> list[str]:
    """The sorted names of the classes that ``good`` images are in; every folder must be one."""
    names = sorted({path.parent.name for path in good})
    empty = sorted({path.name for path in _visible(source) if path.is_dir()}.difference(names))
    if empty:
        raise InputError(f"class {empty[0]!r} in {source} holds no image: add some or remove the folder")
    if len(names) < 2:
        raise InputError(f"{source} holds one class ({names[0]}): there is nothing to tell apart, add a second folder")
    return names


def _check(files: Sequence[Path]) -> list[Optional[str]]:
    with ProcessPoolExecutor() as pool:
        found = pool.map(_complaint, files, chunksize=64)
        return list(progress(found, desc="checking images", total=len(files), leave=False))


def _complaint(path: Path) -> Optional[str]:
    """None if ``path`` can be read as an image and written to a list file, else what is wrong."""
    if not _listable(path):
        return f"{str(path)!r} has a tab, a line break or a byte that is not UTF-8 in its name: rename it"
    if path.is_dir():
        return f"{path} is a folder: images lie directly in their class's folder"
    try:
        decode(path.read_bytes(), str(path))
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    except InputError as error:
        return str(error)
    return None


def _listable(path: Path) -> bool:
    try:
        return not set("\t\n\r") & set(str(path).encode().decode())
    except UnicodeEncodeError:
        return False


def _link(source: Path, destination: Path) -> None:
    """Makes ``destination`` the same file as ``source``, by the first way that works here."""
    target = os.path.realpath(source)
    # A hard link also stands when the user removes the original; a symbolic one reaches other file systems.
    for way in (os.link, os.symlink):
        with contextlib.suppress(OSError):
            way(target, destination)
            return
    shutil.copyfile(target, destination)
