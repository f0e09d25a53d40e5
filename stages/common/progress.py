"""Progress bars for long work."""

import sys
from collections.abc import Iterable, Sized
from typing import Any, Optional

from tqdm import tqdm

# Of fewer images there is no bar: done before it could be read.
MANY = 10


def progress(
    images: Optional[Iterable[Any]] = None, total: Optional[int] = None, desc: Optional[str] = None, leave: bool = True
) -> "tqdm[Any]":
    """A tqdm bar on stderr; in a log file, where it is one that stays, only of what takes long, every ten seconds.

    images: what to iterate over, or None for a bar that is moved by its ``update``. total: how many there are, unless
    ``images`` has a length. desc: what is being done. leave: whether the bar stays when it is done.
    """
    if total is None:
        total = len(images) if isinstance(images, Sized) else 0
    seen = sys.stderr.isatty()
    interval = 0.2 if seen else 10
    return tqdm(
        images,
        total=total,
        desc=desc,
        leave=leave,
        unit=" images",
        mininterval=interval,
        maxinterval=interval,
        delay=0 if seen else interval,
        disable=total < MANY or not (seen or leave),
    )
