"""Objects in a store or on a web server: which there are, in which version, and their bytes. See ``stores``."""

import email.utils
import hashlib
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Optional, Union
from urllib.parse import unquote

from stages.common.errors import InputError
from stages.dataset.sources.files.stamps import Stamp
from stages.dataset.sources.files.stores import Away, Failed, Unreadable, file_system, retried, tries, wait, why

# Requests at a time.
AT_ONCE = 32
# Pieces of one object with at most GAP bytes between them are fetched as one of at most WHOLE bytes.
GAP = 1 << 16
WHOLE = 1 << 24
# Bytes fetched at a time of an archive that is read through.
BLOCK = 1 << 22
# From so many objects of one folder on, the folder is listed; fewer are asked for one by one.
MANY = 100


class Piece(NamedTuple):
    """``size`` bytes from ``offset`` of the object at ``url``; with None, the whole object."""

    url: str
    offset: int = 0
    size: Optional[int] = None


class Object(NamedTuple):
    """path: relative to what was listed. size: bytes, if known. stamp: None if the store tells no version or date."""

    path: str
    size: Optional[int]
    stamp: Optional[Stamp]


def listed(url: str, deep: bool = True) -> list[Object]:
    """The objects below ``url``, with ``deep`` those below its folders too; sorted. Raises InputError, or Away."""
    files = file_system(url)
    try:
        found = retried(partial(files.find, maxdepth=None if deep else 1, detail=True), url)
    except Failed as error:
        raise (Away if error.passing else InputError)(f"{url} cannot be listed: {error.reason}") from None
    objects = {files.unstrip_protocol(name): info for name, info in found.items()}
    # A store may keep a place holder for a folder.
    names = [name for name in sorted(objects) if name.startswith(f"{url}/") and not name.endswith("/")]
    infos = [objects[name] for name in names]
    if any(_stamp(info) is None for info in infos):
        # A web server's page of links tells neither sizes nor versions.
        infos = [info or {} for info in _infos(files, names)]
    return [Object(name[len(url) + 1 :], info.get("size"), _stamp(info)) for name, info in zip(names, infos)]


def stamps(urls: Iterable[str]) -> dict[str, Stamp]:
    """The stamps of the objects at ``urls``, as far as there are such objects and their stores tell a version or date.

    Raises Away where a store cannot be asked.
    """
    by_folder: dict[str, list[str]] = {}
    for url in dict.fromkeys(urls):
        by_folder.setdefault(url.rpartition("/")[0], []).append(url)
    found: dict[str, Stamp] = {}
    single = []
    for folder, some in by_folder.items():
        if len(some) < MANY or folder.startswith("http"):
            single += some
            continue
        objects = {f"{folder}/{each.path}": each.stamp for each in listed(folder, deep=False)}
        found.update((url, stamp) for url in some if (stamp := objects.get(url)) is not None)
    for scheme in sorted({url.partition("://")[0] for url in single}):
        some = [url for url in single if url.startswith(f"{scheme}://")]
        for url, info in zip(some, _infos(file_system(some[0]), some)):
            if info is not None and (stamp := _stamp(info)) is not None:
                found[url] = stamp
    return found


def fetch(pieces: Sequence[Piece]) -> list[Union[bytes, Unreadable]]:
    """The bytes of each of ``pieces``, or why they cannot be had; neighbours in one object are fetched together."""
    answers: dict[int, Union[bytes, Unreadable]] = {}
    spans = _spans(pieces)
    for scheme in sorted({piece.url.partition("://")[0] for piece in pieces}):
        some = [(piece, rows) for piece, rows in spans if piece.url.startswith(f"{scheme}://")]
        for (span, rows), data in zip(some, _fetch([piece for piece, _ in some])):
            for row in rows:
                _, offset, size = pieces[row]
                start = offset - span.offset
                whole = isinstance(data, Unreadable) or size is None
                answers[row] = data if whole else data[start : start + size]  # type: ignore[index,operator]
    return [answers[row] for row in range(len(pieces))]


class File(io.RawIOBase):
    """The object at ``url``, which has ``size`` bytes, to be read through from front to back, with leaps forward.

    Raises Unreadable where a part cannot be had.
    """

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._place = url, size, 0
        self._begin, self._block = 0, b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        start = self._place - self._begin
        if not 0 <= start < len(self._block):
            size = min(BLOCK, self._size - self._place)
            if size <= 0:
                return 0
            (block,) = fetch([Piece(self._url, self._place, size)])
            if isinstance(block, Unreadable):
                raise block
            self._begin, self._block, start = self._place, block, 0
        data = self._block[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _spans(pieces: Sequence[Piece]) -> list[tuple[Piece, list[int]]]:
    """What to fetch, and which of ``pieces`` (their rows) lie in it."""
    spans: list[tuple[Piece, list[int]]] = []
    for row in sorted(range(len(pieces)), key=lambda row: (pieces[row].url, pieces[row].offset)):
        piece = pieces[row]
        if spans and piece.size is not None:
            last, rows = spans[-1]
            begin, end = last.offset, piece.offset + piece.size
            if last.url == piece.url and last.size is not None and end - begin <= WHOLE:
                gap = piece.offset - (begin + last.size)
                if gap <= GAP:
                    spans[-1] = (last._replace(size=max(last.size, end - begin)), [*rows, row])
                    continue
        spans.append((piece, [row]))
    return spans


def _fetch(pieces: Sequence[Piece]) -> list[Union[bytes, Unreadable]]:
    """The bytes of each of ``pieces``, which are of one kind of store."""
    try:
        files = file_system(pieces[0].url)
    except InputError as error:
        return [Failed(str(error), False)] * len(pieces)
    answers: list[Union[bytes, Unreadable]] = [Unreadable("")] * len(pieces)
    left = list(range(len(pieces)))
    for attempt in range(tries(pieces[0].url)):
        wait(attempt)
        paths = [pieces[row].url for row in left]
        starts = [None if pieces[row].size is None else pieces[row].offset for row in left]
        ends = [None if (size := pieces[row].size) is None else pieces[row].offset + size for row in left]
        try:
            found = files.cat_ranges(paths, starts, ends, on_error="return", batch_size=AT_ONCE)
        except Exception as error:
            found = [error] * len(left)
        again = []
        for row, data in zip(left, found):
            size = pieces[row].size
            if isinstance(data, BaseException):
                failed = why(data)
            elif size is not None and len(data) != size:
                failed = Failed("it is cut short" if len(data) < size else "the server sends no parts of it", True)
            else:
                answers[row] = data
                continue
            answers[row] = failed
            if failed.passing:
                again.append(row)
        left = again
        if not left:
            break
    return answers


def _infos(files: Any, urls: Sequence[str]) -> list[Optional[dict[str, Any]]]:
    """What the store tells of each of ``urls``; None where there is no such object, or it may not be read."""

    def info(url: str) -> Optional[dict[str, Any]]:
        try:
            return retried(files.info, url)
        except Failed as error:
            if error.passing:
                raise Away(f"{url} cannot be asked for: {error.reason}") from None
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(info, urls))


def _stamp(info: dict[str, Any]) -> Optional[Stamp]:
    """The stamp of the object that a store tells this of."""
    size = info.get("size")
    size = -1 if size is None else int(size)
    for name in ("VersionId", "version_id", "generation", "ETag", "etag", "md5Hash", "content_md5", "Content-MD5"):
        if info.get(name) not in (None, "", "null"):
            digest = hashlib.sha256(f"{name} {info[name]}".encode()).digest()
            # SQLite's integers have a sign.
            return Stamp(size, 0, 0, int.from_bytes(digest[:8], "big") >> 1)
    for name in ("LastModified", "last_modified", "Last-Modified", "mtime", "updated"):
        moment = _nanoseconds(info.get(name))
        if moment is not None:
            return Stamp(size, moment, moment, 0)
    return None


def _nanoseconds(moment: Union[None, str, float, datetime]) -> Optional[int]:
    if isinstance(moment, str):
        try:
            moment = email.utils.parsedate_to_datetime(moment)
        except (TypeError, ValueError):
            return None
    if isinstance(moment, datetime):
        moment = moment.timestamp()
    return None if moment is None else int(moment * 1e9)


def plain(path: str, url: str) -> str:
    """``path`` below ``url`` as people write it: of web addresses, without their percent signs."""
    return unquote(path) if url.startswith("http") else path
