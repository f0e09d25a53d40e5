"""Packs a folder of images into tar archives: ``python -m stages.shards FOLDER OUT --size 256MB``."""

import argparse
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Optional

from stages.common.disk.files import replacing
from stages.common.errors import InputError, run
from stages.common.progress import progress
from stages.dataset import manifest
from stages.dataset.sources import folder
from stages.dataset.sources.files.places import ARCHIVE, read
from stages.dataset.sources.files.stores import is_url
from stages.dataset.sources.source import Listed

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """The command ``python -m stages.shards``."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.shards",
        description="Pack a folder of images, <folder>/<class>/<image>, into tar archives for dataset.name: shards.",
    )
    parser.add_argument("folder", help="the folder of images, or the URL of one")
    parser.add_argument("out", type=Path, help="the folder to make, with the archives in it")
    parser.add_argument("--size", type=_bytes, default="256MB", help="of an archive at most (default: 256MB)")
    chosen = parser.parse_args(arguments)
    if chosen.out.exists():
        raise InputError(f"{chosen.out} is there already: name a folder that is not, or remove it")
    top = chosen.folder.rstrip("/") if is_url(chosen.folder) else str(Path(chosen.folder))
    # In the order of the manifest, so that the images come in the same order out of the archives.
    images = sorted(folder.listing(top).images, key=lambda image: manifest.order(image.path))
    with replacing(chosen.out, folder=True) as destination:
        count = _pack(images, destination, chosen.size)
    print(f"{len(images)} images in {count} archives in {chosen.out}")


def _pack(images: Sequence[Listed], destination: Path, size: int) -> int:
    """Writes the archives; returns how many. Of the same images they are the same bytes."""
    count = 0
    members = _members(progress(images, desc="packing"))
    member = next(members, None)
    while member is not None:
        path = destination / f"shard-{count:06}{ARCHIVE}"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            while member is not None and (not tar.offset or tar.offset + _space(member) <= size):
                tar.addfile(member[0], io.BytesIO(member[1]))
                member = next(members, None)
        count += 1
    return count


def _members(images: Iterable[Listed]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for image in images:
        if image.complaint is not None:
            raise InputError(image.complaint)
        data, _ = read(image.place)
        member = tarfile.TarInfo(image.path)
        member.size, member.mode = len(data), 0o644
        yield member, data


def _space(member: tuple[tarfile.TarInfo, bytes]) -> int:
    """Bytes that a member takes in an archive, and what ends that."""
    block = tarfile.BLOCKSIZE
    header = len(member[0].tobuf(tarfile.PAX_FORMAT))
    return header + -(-len(member[1]) // block) * block + 2 * block


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15})(KB|MB|GB|)", text.strip().upper())
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"must be a size like 256MB (got {text!r})")
    return int(match[1]) * UNITS[match[2]]


if __name__ == "__main__":
    run(main)
