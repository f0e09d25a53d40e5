"""Progress bars for long work."""

import sys
from collections.abc import Iterable
from typing import Any, Optional

from tqdm import tqdm

# Of fewer images there is no bar: done before it could be read.
MANY = 10


def progress(
    images: Optional[Iterable[Any]] = None, *, total: int, desc: Optional[str] = None, leave: bool = True
) -> "tqdm[Any]":
    """A tqdm bar over ``total`` images on stderr; in a log file a line every ten seconds.

    images: what to iterate over, or None for a bar that is moved by its ``update``. desc: what is being done. leave:
    whether the bar stays when it is done.
    """
    interval = 0.2 if sys.stderr.isatty() else 10
    return tqdm(
        images,
        total=total,
        desc=desc,
        leave=leave,
        unit=" images",
        mininterval=interval,
        maxinterval=interval,
        disable=total < MANY,
    )
