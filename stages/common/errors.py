"""How a program of headstart fails: one sentence on stderr and a non-zero exit, never a bare traceback."""

import errno
import sys
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Optional

_NO_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class InputError(Exception):
    """Something the user can put right; the message is one sentence: what is wrong, where, what to do."""


def run(main: Callable[[], Optional[int]]) -> NoReturn:
    """Runs a command, exits with the code it returns, and says in one sentence why it fails where it does."""
    sys.excepthook = _report
    sys.exit(main())


def _report(kind: type[BaseException], error: BaseException, traceback: Optional[TracebackType]) -> None:
    if isinstance(error, InputError):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("interrupted: nothing half-written is kept; the same command starts again", file=sys.stderr)
    elif isinstance(error, OSError) and error.errno in _NO_WRITE:
        place = f" {error.filename}" if error.filename else ""
        print(f"error: cannot write{place}: {error.strerror}; make room or mend the rights there", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
