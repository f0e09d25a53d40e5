"""Caltech-256 (Griffin, Holub & Perona 2007): fetches the published archive and unpacks its images.

The archive holds 30,607 images as ``256_ObjectCategories/<NNN>.<class>/<file>.jpg`` in 257 folders, the last of
which is ``257.clutter``, and a few other entries (``198.spider/RENAME2``, empty folders in ``056.dog``).
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from stages.common.errors import InputError

NAME = "256_ObjectCategories.tar"
URL = f"https://data.caltech.edu/records/nyy15-4j048/files/{NAME}"
MD5 = "67b4f42ca05d46448c6bb8ecd2220f6d"
# A mirror's address; and the MD5 to expect of it, should its archive be another one.
URL_VARIABLE = "HEADSTART_CALTECH256_URL"
MD5_VARIABLE = "HEADSTART_CALTECH256_MD5"

# How often a request that fails is sent again, after 0, 2, 4, … times BACKOFF seconds.
RETRIES = 3
BACKOFF = 1
# How many broken connections one run continues after.
DROPS = 5
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
CHUNK = 1 << 16  # bytes read at once, and so the most that a broken connection loses

CLUTTER = "clutter"
# The name starts with a letter or digit: never with a dot, so it is no path out of its folder.
_CLASS = re.compile(r"[0-9]{3}\.([A-Za-z0-9].*)")


def fetch(place, url=None, md5=None):
    """Returns the path of the archive, its MD5 checked; downloads it when it is not there yet.

    ``place`` is the archive itself, if the user has it, or the folder to keep it in. A download that was broken off
    stays there as ``.part``, and the next call continues it. ``url`` and ``md5`` default to the environment
    variables above, then to the published archive. Calls at the same time for the same folder download once.

    Raises InputError if there is no such archive, if it cannot be downloaded, or if its MD5 is another one.
    """
    place = Path(place)
    url = url or os.environ.get(URL_VARIABLE) or URL
    md5 = (md5 or os.environ.get(MD5_VARIABLE) or MD5).lower()
    if place.is_file() or (place.suffix == ".tar" and not place.is_dir()):
        target = place
        if not target.is_file():
            raise InputError(f"there is no archive {target}: put {NAME} there, or name a folder to download it into")
    else:
        target = place / NAME
        if not target.exists():
            place.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(target):
                if not target.exists():  # another run may have had the lock
                    _download(url, target, md5)
                    return target
    found = _md5(target)
    if found != md5:
        raise InputError(
            f"{target} is not Caltech-256 as published (its MD5 is {found}, not {md5}): delete it and run again to "
            "download it, or unpack it yourself and use it as a folder of images"
        )
    return target


@contextlib.contextmanager
def _one_at_a_time(target):
    """Holds the lock on downloading ``target``; waits for another process that has it."""
    with open(f"{target}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that is downloading {target}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(url, target, md5):
    """Downloads ``url`` to ``target``, by way of ``<target>.part``, which may already hold a beginning."""
    part = target.with_name(f"{target.name}.part")
    print(f"downloading {url} to {target}", file=sys.stderr)
    try:
        with _session() as session:
            whole = any(_continue(session, url, part) for _ in range(1 + DROPS))
    except requests.RequestException as error:
        raise InputError(
            f"cannot download Caltech-256 from {url} ({_reason(error)}): run again later, set {URL_VARIABLE} to a "
            f"mirror, or put the archive at {target}"
        ) from None
    if not whole:
        raise InputError(
            f"the download of {url} broke off {1 + DROPS} times, at last after {_size(part)} bytes: "
            "run again, and it continues there"
        )
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise InputError(
            f"what {url} sent is not Caltech-256 as published (its MD5 is {found}, not {md5}), so it was deleted: "
            f"run again, set {URL_VARIABLE} to a mirror, or put the archive at {target}"
        )
    part.rename(target)


def _session():
    """A session that repeats a request while the server cannot be reached or is busy."""
    retries = Retry(
        total=RETRIES,
        backoff_factor=BACKOFF,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,  # it may ask for an hour
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def _continue(session, url, part):
    """Asks once for what ``part`` lacks and adds it; returns whether that came to the end or broke off.

    Raises RequestException if no answer comes or the server refuses.
    """
    start = _size(part)
    headers = {"Accept-Encoding": "identity"}  # ranges count the archive's own bytes
    if start:
        headers["Range"] = f"bytes={start}-"
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return True  # there is nothing after what part has
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0  # this server does not know ranges: it sends everything
        length = int(response.headers.get("Content-Length", 0))
        with open(part, "ab" if start else "wb") as file, _bar("download", start + length, start) as bar:
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException:
                return False
            # urllib3 1 takes a connection that is closed early for the end.
            return file.tell() >= start + length


def _reason(error):
    # requests' own messages for the first three are the inner workings of urllib3.
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not accepted"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return str(error)


def _bar(what, total, start=0):
    # Not shown where stderr is no terminal; a total of 0 is an unknown one.
    return tqdm(desc=what, total=total or None, initial=start, unit="B", unit_scale=True, disable=None)


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _md5(path):
    digest = hashlib.md5(usedforsecurity=False)  # where MD5 is forbidden for security, this use still works
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def extract(archive, destination, clutter=True):
    """Unpacks the images to ``destination/<class>/<file>``; returns the class names in the order of their numbers.

    A class is named without its number; ``clutter=False`` leaves out the one called so. ``destination`` is replaced,
    and not touched before everything has been unpacked beside it.

    Raises InputError if the archive is damaged, has no class, has two classes of one name, or has a member that
    is a link or a device or lies outside of the archive's own folder.
    """
    destination = Path(destination)
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


def _members(tar, archive):
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


def _classes(members, archive):
    """The images by class name, in the order of the classes' numbers."""
    images = {}
    for member in members:
        path = PurePosixPath(member.name)
        if member.isreg() and len(path.parts) == 3 and path.suffix == ".jpg" and _CLASS.fullmatch(path.parent.name):
            images.setdefault(path.parent, []).append(member)
    if not images:
        raise InputError(f"{archive} has no <folder>/<NNN>.<class>/*.jpg: fetch {NAME} again")
    classes = {}
    for folder in sorted(images, key=lambda folder: folder.name):
        name = _CLASS.fullmatch(folder.name)[1]
        if name in classes:
            raise InputError(f"{archive} has two classes named {name!r}, one of them {folder}: fetch {NAME} again")
        classes[name] = images[folder]
    return classes


def _write(tar, classes, folder):
    with _bar("unpack", sum(image.size for images in classes.values() for image in images)) as bar:
        for name, images in classes.items():
            (folder / name).mkdir(parents=True)
            for image in images:
                with open(folder / name / PurePosixPath(image.name).name, "wb") as file:
                    shutil.copyfileobj(tar.extractfile(image), file)
                bar.update(image.size)
