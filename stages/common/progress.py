"""Progress bars for long work."""

import sys

from tqdm import tqdm

# Of fewer images there is no bar: done before it could be read.
MANY = 10


def progress(iterable=None, total=None, **options):
    """A tqdm bar over images on stderr; in a log file a line every ten seconds.

    iterable: with a length, or None or a generator with ``total``.
    """
    total = len(iterable) if total is None else total
    interval = 0.2 if sys.stderr.isatty() else 10
    return tqdm(
        iterable,
        total=total,
        unit=" images",
        mininterval=interval,
        maxinterval=interval,
        disable=total < MANY,
        **options,
    )
