"""How a program of headstart fails: one sentence on stderr and a non-zero exit, never a bare traceback."""

import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Optional, Union

from stages.common import streams

# What to do about what the system says, by its number.
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    errno.EROFS: "choose a place that can be written to",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "mend the rights there"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "something of another kind is in its place"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "mend the link, which leads to itself",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (`ulimit -n`)"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "look after the disk or the file server"),
}
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


# New objects before Python looks for reference cycles among them. Lists of many images are millions of tuples without
# any: at Python's own 700 that takes a quarter of the time in which they are made.
ALLOCATIONS = 20_000


class InputError(Exception):
    """Something the user can put right; the message is one sentence: what is wrong, where, what to do."""


def run(main: Callable[[], Optional[int]]) -> NoReturn:
    """Runs a command, exits with the code it returns, and says in one sentence why it fails where it does."""
    sys.excepthook = _report
    streams.prepare()
    gc.set_threshold(ALLOCATIONS)
    # Until now Ctrl-C ended it without a word (see ``stages``).
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code: Union[str, int, None]
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    # What cannot be written is to be told here, not by Python when all is over.
    sys.stdout.flush()
    sys.exit(code)


def _report(kind: type[BaseException], error: BaseException, traceback: Optional[TracebackType]) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        streams.drop_output()
    # The reader of the output has had enough (``… | head``): there is nothing to be told.
    if isinstance(error, BrokenPipeError):
        return
    sentence = _sentence(error)
    if sentence is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(streams.plain(sentence), file=sys.stderr)


def _sentence(error: BaseException) -> Optional[str]:
    """What to say of ``error``, or None for what is a mistake of ours."""
    if isinstance(error, (InputError, streams.Closed)):
        return f"error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: nothing half-written is kept; the same command starts again"
    if isinstance(error, MemoryError):
        return "error: there is not memory enough: lower runtime.workers or runtime.batch_size, or end other programs"
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        what = "cannot write" if error.errno in _OF_WRITING else "cannot use"
        place = f" {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
        return f"error: {what}{place}: {error.strerror}; {_REMEDIES[error.errno]}"
    return None
