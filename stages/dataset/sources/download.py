"""Fetches a published file over HTTP into a folder: continued where it broke off, its MD5 checked."""

import contextlib
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from stages.common.caches.folders import user_cache
from stages.common.disk.files import one_at_a_time, write_text
from stages.common.errors import InputError
from stages.dataset.sources.files.stamps import Stamp, settled, stamp_of


class Published(NamedTuple):
    """A file as its authors publish it.

    title: what it is, for messages; name: of the file; md5: in hexadecimal. variable: ``<variable>_URL`` in the
    environment is the address of a mirror, and ``<variable>_MD5`` what to expect of it, should its file be another one.
    """

    title: str
    name: str
    url: str
    md5: str
    variable: str


def fetch(published: Published, place: Path) -> Path:
    """Returns the path of the file, its MD5 checked; downloads it when it is not there yet.

    ``place`` is the file itself, if the user has it, or the folder to keep it in. A download that was broken off stays
    there as ``.part``, and the next call continues it. Calls at the same time for the same folder download once.

    Raises InputError if there is no such file, if it cannot be downloaded, or if its MD5 is another one.
    """
    published = _from_environment(published)
    if place.is_file() or (place.suffix == Path(published.name).suffix and not place.is_dir()):
        target = place
        if not target.is_file():
            raise InputError(
                f"there is no archive {target}: put {published.name} there, or name a folder to download it into"
            )
    else:
        target = place / published.name
        if not target.exists():
            place.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(target):
                if not target.exists():  # another run may have had the lock
                    _download(published, target)
                    return target
    if _is_known(target, published.md5):
        return target
    begun, stamp = time.time_ns(), stamp_of(target.stat())
    found = _md5(target)
    if found != published.md5:
        raise InputError(
            f"{target} is not {published.title} as published (its MD5 is {found}, not {published.md5}): delete it and "
            "run again to download it, or unpack it yourself and use it as a folder of images"
        )
    if settled(stamp, begun):
        _note(target, found, stamp)
    return target


def _is_known(target: Path, md5: str) -> bool:
    """Whether the file is as it was when it was found to have this MD5."""
    try:
        return _notice(target).read_text(encoding="utf-8") == f"{md5} {stamp_of(target.stat())}"
    except (OSError, UnicodeDecodeError):
        return False


def _note(target: Path, md5: str, stamp: Stamp) -> None:
    """Notes the MD5 that was found; stamp: from before that, as the file may have changed meanwhile."""
    with contextlib.suppress(OSError):
        write_text(_notice(target), f"{md5} {stamp}")


def _notice(target: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(target))).hexdigest()[:32]
    return user_cache() / "downloads" / f"{name}.checked"


def _from_environment(published: Published) -> Published:
    url = os.environ.get(f"{published.variable}_URL") or published.url
    md5 = os.environ.get(f"{published.variable}_MD5") or published.md5
    return published._replace(url=url, md5=md5.lower())


def _download(published: Published, target: Path) -> None:
    """Downloads to ``target``, by way of ``<target>.part``, which may already hold a beginning."""
    # The HTTP library takes as long to import as numpy, and most runs have what they need.
    from stages.dataset.sources import transfer

    title, url, variable = published.title, published.url, f"{published.variable}_URL"
    part = target.with_name(f"{target.name}.part")
    print(f"downloading {url} to {target}", file=sys.stderr)
    try:
        transfer.transfer(url, part)
    except transfer.Refused as reason:
        raise InputError(
            f"cannot download {title} from {url} ({reason}): run again later, set {variable} to a mirror, or "
            f"put the archive at {target}"
        ) from None
    found = _md5(part)
    if found != published.md5:
        part.unlink()
        raise InputError(
            f"what {url} sent is not {title} as published (its MD5 is {found}, not {published.md5}), so it was "
            f"deleted: run again, set {variable} to a mirror, or put the archive at {target}"
        )
    part.rename(target)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)  # where MD5 is forbidden for security, this use still works
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
