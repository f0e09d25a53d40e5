"""images: the data set as ``data/images/<class>/<file>``, every image known to be readable."""

import contextlib
import importlib.util
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
from PIL import Image

from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import replacing, write_text
from stages.common.layout import CLASSES, IMAGES
from stages.common.progress import progress
from stages.dataset.decode import decode
from stages.dataset.sources import caltech256


def main():
    dataset = params.load().dataset
    with replacing(IMAGES, folder=True) as destination:
        if dataset.name == "digits":
            classes = digits(destination)
        elif dataset.name == "caltech256":
            classes = caltech(Path(dataset.path), destination, dataset.clutter)
        else:
            classes = folder(Path(dataset.path), destination, dataset.on_bad_image)
    write_text(CLASSES, "".join(f"{name}\n" for name in classes))


def digits(destination):
    """Writes scikit-learn's 1,797 handwritten digits (8×8, grey) as PNG; returns the class names "0" to "9"."""
    # From scikit-learn's file: to import scikit-learn takes longer than all the rest of this stage.
    package = Path(importlib.util.find_spec("sklearn").origin).parent
    rows = np.loadtxt(package / "datasets/data/digits.csv.gz", delimiter=",")
    classes = [str(digit) for digit in range(10)]
    for name in classes:
        (destination / name).mkdir()
    for number, row in enumerate(rows):
        # Grey levels are 0 to 16; the last number is the digit.
        grey = np.round(row[:-1].reshape(8, 8) * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(destination / classes[int(row[-1])] / f"{number:04}.png")
    print(f"digits: {len(rows)} images of {len(classes)} classes")
    return classes


def caltech(source, destination, clutter):
    """Unpacks Caltech-256 into ``destination``; returns its class names in the published order.

    source: the archive, if the user has it; anything else means to download it, once, into the user's cache folder.
    clutter: whether to take the 257th class, of images that belong to none of the others.
    """
    archive = caltech256.fetch(source if source.is_file() else platformdirs.user_cache_path("headstart") / "downloads")
    # Its MD5 vouches for the images.
    classes = caltech256.extract(archive, destination, clutter)
    print(f"caltech256: {sum(1 for _ in destination.glob('*/*'))} images of {len(classes)} classes")
    return classes


def folder(source, destination, on_bad_image):
    """Links the images of ``<source>/<class>/`` into ``<destination>/<class>/``; returns the sorted class names.

    Hidden files are passed over. What is not a readable image raises InputError naming it, or, with ``on_bad_image``
    "skip", is left out and reported. Raises InputError where fewer than two classes hold images.
    """
    if not source.is_dir():
        raise InputError(f"dataset.path: there is no folder {source}")
    files = [path for folder in _visible(source) if folder.is_dir() for path in _visible(folder)]
    loose = sum(path.is_file() for path in _visible(source))
    if loose:
        which = "1 file that lies" if loose == 1 else f"{loose} files that lie"
        print(f"passed over {which} directly in {source}, in no class")
    if not files:
        raise InputError(f"there are no images in {source}: put them there as {source}/<class>/<image>")
    bad = [complaint for complaint in _check(files) if complaint]
    if bad and on_bad_image == "fail":
        more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
        raise InputError(f"{bad[0][1]}{more}; mend or remove it, or set dataset.on_bad_image: skip")
    for _, complaint in bad:
        print(f"skipped: {complaint}")
    good = sorted(set(files) - {path for path, _ in bad})
    print(f"{source}: {len(good)} images" + (f", {len(bad)} skipped" if bad else ""))

    classes = sorted({path.parent.name for path in good})
    empty = sorted({path.name for path in _visible(source) if path.is_dir()} - set(classes))
    if empty:
        raise InputError(f"class {empty[0]!r} in {source} holds no image: add some or remove the folder")
    if len(classes) < 2:
        raise InputError(
            f"{source} holds one class ({classes[0]}): there is nothing to tell apart, add a second folder"
        )
    for name in classes:
        (destination / name).mkdir()
    for path in good:
        _link(path, destination / path.parent.name / path.name)
    return classes


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _check(files):
    with ProcessPoolExecutor() as pool:
        found = pool.map(_complaint, files, chunksize=64)
        yield from progress(found, desc="checking images", total=len(files), leave=False)


def _complaint(path):
    """None if ``path`` can be read as an image and written to a list file, else (path, what is wrong)."""
    try:
        if not _listable(path):
            raise InputError(
                f"{str(path)!r} has a tab, a line break or a byte that is not UTF-8 in its name: rename it"
            )
        if path.is_dir():
            raise InputError(f"{path} is a folder: images lie directly in their class's folder")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from None
        decode(data, path)
    except InputError as error:
        return path, str(error)
    return None


def _listable(path):
    try:
        return not set("\t\n\r") & set(str(path).encode().decode())
    except UnicodeEncodeError:
        return False


def _link(source, destination):
    """Makes ``destination`` the same file as ``source``, by the first way that works here."""
    source = os.path.realpath(source)
    # A hard link also stands when the user removes the original; a symbolic one reaches other file systems.
    for way in (os.link, os.symlink):
        with contextlib.suppress(OSError):
            way(source, destination)
            return
    shutil.copyfile(source, destination)


if __name__ == "__main__":
    run(main)
