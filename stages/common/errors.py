"""How a program of headstart fails: one sentence on stderr and a non-zero exit, never a bare traceback.

Importing this module installs the hook that does so, so it also covers what fails while importing.
"""

import errno
import sys

_NO_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class InputError(Exception):
    """Something the user can put right; the message is one sentence: what is wrong, where, what to do."""


def _report(kind, error, traceback):
    if issubclass(kind, InputError):
        print(f"error: {error}", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("interrupted: nothing half-written is kept; the same command starts again", file=sys.stderr)
    elif issubclass(kind, OSError) and error.errno in _NO_WRITE:
        place = f" {error.filename}" if error.filename else ""
        print(f"error: cannot write{place}: {error.strerror}; make room or mend the rights there", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _report
