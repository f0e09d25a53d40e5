"""What tells a file or object that has changed from one that has not, without reading it.

A file can be written twice within one tick of its file system's clock, and has the same stamp after both. What was read
in between would be taken for what came after. So what was read less than ``TICK`` after the file changed is not
settled: the next look reads it again (git calls such an entry racily clean).
"""

import os
from typing import NamedTuple

# In nanoseconds. The coarsest clock of a file system in use ticks every two seconds (FAT). One more second is for the
# kernel's clock, by which files get their times: it is milliseconds behind the one that tells the time here, and on a
# file server a little off.
TICK = 3 * 10**9


class Stamp(NamedTuple):
    """Of a file: bytes, nanoseconds twice, number of the inode. Of an object in a store: bytes, 0, 0, its version.

    changed: the inode's time. Unlike ``modified`` it cannot be set, and so gives away a file that was replaced by one
    of the same size and time of modification, as ``cp -p`` and ``rsync -t`` do.
    """

    size: int
    modified: int
    changed: int
    inode: int


def stamp_of(stat: os.stat_result) -> Stamp:
    """The stamp of a file."""
    # SQLite's integers have a sign.
    return Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**63 - 1))


def settled(stamp: Stamp, read: int) -> bool:
    """Whether every change of the file after the time ``read`` (nanoseconds) is sure to give it another stamp."""
    # A time of modification in the future was set by hand. The inode's time cannot be: it comes from a server whose
    # clock is ahead, or the file changed after ``read``.
    return stamp.changed < read - TICK and not read - TICK <= stamp.modified <= read
