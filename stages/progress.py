"""Progress bars for long work."""

import sys

from tqdm import tqdm


def progress(iterable=None, **options):
    """A tqdm bar over images on stderr; in a log file a line every ten seconds."""
    interval = 0.2 if sys.stderr.isatty() else 10
    return tqdm(iterable, unit=" images", mininterval=interval, maxinterval=interval, **options)
