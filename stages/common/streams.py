"""What a command says to its user, and reads from it: whatever is in a text, and whatever has become of the streams."""

import codecs
import io
import json
import os
import re
import sys
from typing import Any, Union

# What a terminal obeys instead of showing it. Progress bars begin their line anew, and tabs make columns.
_OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# How what a stream's encoding lacks is written.
_LACKING = "headstart.lacking"


class Closed(OSError):
    """A standard stream is used that was closed when the command began."""


def prepare() -> None:
    """Makes standard output and error take any text, and harmless to terminals; a closed stream fails when it is used.

    A byte of a file's name that is not text goes out as it came in. What an encoding lacks, and what a terminal would
    obey, is written as JSON escapes it.
    """
    if sys.stdin is None:
        _occupy(0)
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Closed("standard input is closed: there is nothing to read")))
    if sys.stdout is None:
        _occupy(1)
        closed = _Closed(f"standard output is closed: let it go to a file, or to {os.devnull}")
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(closed))
    if sys.stderr is None:
        # Nobody listens, as was wanted.
        _occupy(2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    codecs.register_error(_LACKING, _lacking)
    sys.stdout, sys.stderr = _Harmless.of(sys.stdout), _Harmless.of(sys.stderr)


def drop_output() -> None:
    """Lets go what standard output still holds, as nobody takes it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


class _Harmless(io.TextIOWrapper):
    """A text stream that writes what a terminal would obey as escapes."""

    @classmethod
    def of(cls, stream: Any) -> Any:
        """``stream``, which is such a one from now on; what is not a plain one, as in a test, stays as it is."""
        if type(stream) is not io.TextIOWrapper:
            return stream
        encoding, buffering, through = stream.encoding, stream.line_buffering, stream.write_through
        return cls(stream.detach(), encoding, _LACKING, line_buffering=buffering, write_through=through)

    def write(self, text: str, /) -> int:
        return super().write(_OBEYED.sub(lambda found: _escape(found[0]), text))


class _Closed(io.RawIOBase):
    """What stands for a closed stream, and says so."""

    def __init__(self, message: str) -> None:
        self._message, self._told = message, False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise Closed(self._message)

    def write(self, data: Any) -> int:
        # Once: when all ends, Python tries again.
        if not self._told:
            self._told = True
            raise Closed(self._message)
        return len(data)


def _occupy(number: int) -> None:
    """Lets no file that is opened later have the number of a standard stream, to which libraries may write."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)


def _lacking(error: UnicodeError) -> tuple[Union[str, bytes], int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # One letter at a time: the next may be of the other kind.
    error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return _escape(error.object[error.start]), error.end


def plain(text: object) -> str:
    """``text`` in one line, with escapes for what cannot be shown."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in str(text))


def _escape(letter: str) -> str:
    # A byte that is not text, as Python has it in the names of files.
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return json.dumps(letter)[1:-1]
