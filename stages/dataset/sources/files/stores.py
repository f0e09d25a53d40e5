"""The kinds of stores that fsspec knows, by the beginning of a URL: how to ask them, and why one does not answer.

Credentials are those of the environment, as each store's own library reads them, and none is ever printed. What fails
for the moment is tried again; what a store says of a failure is told in a few words of our own.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Optional, TypeVar

from stages.common.errors import InputError

# How often what fails for the moment is tried, and seconds before the second time; before the next it is twice as long.
TRIES = 5
BACKOFF = 0.5
# What Google's and Azure's libraries are asked they try again by themselves, and cannot be told not to.
PATIENT = ("gs", "gcs", "az", "abfs", "abfss", "adl")
# Seconds to connect; seconds without a byte.
TIMEOUTS = (10, 60)

Answer = TypeVar("Answer")


def is_url(path: str) -> bool:
    """Whether ``path`` is in an object store or on a web server, not in a file system."""
    return "://" in path and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) is not None


class Away(InputError):
    """The store does not answer, or what is needed to ask it is not installed."""


class Unreadable(Exception):
    """Why what is at a place cannot be read; the message lacks its subject: "is a folder"."""


class Failed(Unreadable):
    """Why a request failed: the ``reason``. passing: whether it may go well the next time."""

    def __init__(self, reason: str, passing: bool) -> None:
        super().__init__(f"cannot be read: {reason}")
        self.reason, self.passing = reason, passing


def file_system(url: str) -> Any:
    """fsspec's file system for ``url``. Raises Away where a library is missing, InputError for no known kind of URL."""
    scheme = url.partition("://")[0]
    try:
        import fsspec

        files = fsspec.filesystem(scheme, use_listings_cache=False, **_options(scheme))
        # What s3fs tries again by itself would multiply the tries made here.
        files.retries = 1
        return files
    except ImportError as error:
        raise Away(
            f"to read {scheme}:// addresses a library is missing ({error}): `pip install -r requirements-remote.txt`"
        ) from None
    except ValueError:
        raise InputError(f"{url} begins with {scheme}://, which fsspec does not know") from None


def _options(scheme: str) -> dict[str, Any]:
    """What to tell the library behind ``scheme`` of how long to wait; trying again is done here."""
    connect, read = TIMEOUTS
    if scheme in ("http", "https"):
        import aiohttp

        return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(None, sock_connect=connect, sock_read=read)}}
    if scheme in ("s3", "s3a"):
        retries = {"total_max_attempts": 1}
        config = {"connect_timeout": connect, "read_timeout": read, "retries": retries}
        # An object is one request, not one for its size and others for its parts.
        return {"config_kwargs": config, "max_concurrency": 1}
    return {}


def tries(url: str) -> int:
    """How often what is at ``url`` is asked for."""
    return 1 if url.partition("://")[0] in PATIENT else TRIES


def retried(request: Callable[[str], Answer], url: str) -> Answer:
    """What ``request(url)`` returns. Raises Failed."""
    for left in reversed(range(tries(url))):
        try:
            return request(url)
        except Exception as error:
            failed = why(error)
            if not failed.passing or not left:
                raise failed from None
            wait(TRIES - left)
    raise AssertionError


def wait(failures: int) -> None:
    """Lets a store recover, the longer the more ``failures`` there were in a row."""
    if failures:
        time.sleep(BACKOFF * 2 ** (failures - 1))


def _status(error: BaseException) -> Optional[int]:
    """The status of the answer that a store's library made an exception of."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    # In this order botocore's, aiohttp's, Google's and Azure's.
    found = [
        metadata.get("HTTPStatusCode"),
        *(getattr(error, name, None) for name in ("status", "code", "status_code")),
    ]
    return next((status for status in found if isinstance(status, int)), None)


def why(error: BaseException) -> Failed:
    """What went wrong, in words that hold nothing of the request."""
    # fsspec makes exceptions of its own of those: all the same one, or one for each of the store's words.
    if isinstance(error, OSError) and error.__cause__ is not None:
        error = error.__cause__
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return Failed("the server has no such object", False)
    if isinstance(error, PermissionError) or status in (401, 403):
        return Failed("the server refuses (are the credentials in the environment right?)", False)
    if "Credentials" in type(error).__name__:
        return Failed("there are no credentials for it in the environment", False)
    if status is not None:
        return Failed(f"the server answers {status}", status == 429 or status >= 500)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return Failed("no answer in time", True)
    return Failed(f"the connection fails ({type(error).__name__})", True)
