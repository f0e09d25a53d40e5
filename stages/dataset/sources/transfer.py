"""Brings a file over HTTP, and goes on where the connection breaks off."""

from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from stages.common.errors import InputError

# How often a request that fails is sent again, after 0, 2, 4, … times BACKOFF seconds.
RETRIES = 3
BACKOFF = 1
# How many broken connections one run continues after.
DROPS = 5
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
CHUNK = 1 << 16  # bytes read at once, and so the most that a broken connection loses


class Refused(Exception):
    """The server cannot be reached, or does not give the file; says why in a few words."""


def transfer(url: str, part: Path) -> None:
    """Adds to ``part`` what it lacks of the file at ``url``.

    Raises Refused, and InputError where the connection breaks off again and again; ``part`` keeps what came.
    """
    try:
        with _session() as session:
            whole = any(_continue(session, url, part) for _ in range(1 + DROPS))
    except requests.RequestException as error:
        raise Refused(_reason(error)) from None
    if not whole:
        raise InputError(
            f"the download of {url} broke off {1 + DROPS} times, at last after {_size(part)} bytes: "
            "run again, and it continues there"
        )


def _session() -> requests.Session:
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


def _continue(session: requests.Session, url: str, part: Path) -> bool:
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
        with open(part, "ab" if start else "wb") as file, byte_bar("download", start + length, start) as bar:
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException:
                return False
            # urllib3 1 takes a connection that is closed early for the end.
            return file.tell() >= start + length


def _reason(error: requests.RequestException) -> str:
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


def byte_bar(what: str, total: int, start: int = 0) -> "tqdm[Any]":
    """A bar on stderr of ``total`` bytes, ``start`` of them done."""
    # Not shown where stderr is no terminal; a total of 0 is an unknown one.
    return tqdm(desc=what, total=total or None, initial=start, unit="B", unit_scale=True, disable=None)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
