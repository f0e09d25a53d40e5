"""SQLite databases of what can be had again, one file per user: safe between processes, and never trusted.

Tables that are not as they are made here are damage. No damage ends a run: it costs the time to have it all again.
"""

import contextlib
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Optional, Protocol, TypeVar

from stages.common.streams import plain

# Seconds to wait for other processes that write.
PATIENCE = 10.0
# What may be raised here. A message of SQLite's that quotes what is damaged may not be UTF-8.
ERRORS = (OSError, sqlite3.Error, UnicodeError)


class Closable(Protocol):
    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closable)
Answer = TypeVar("Answer")


class Expendable(Generic[Opened]):
    """The database at ``path``, opened by ``open`` when it is needed first.

    One that is damaged is begun anew, once. One that cannot be used, or is switched off (``path`` None), is done
    without. what: how it is called on stderr, where what goes wrong is said once.
    """

    def __init__(self, what: str, path: Optional[Path], open: Callable[[Path], Opened]) -> None:
        self._what, self._path, self._open = what, path, open
        self._opened: Optional[Opened] = None
        self._inode, self._begun_anew = 0, False
        self._complaints: set[str] = set()

    @property
    def usable(self) -> bool:
        """Whether what is put there is kept."""
        return self._path is not None

    def attempt(self, operation: Callable[[Opened], Answer]) -> Optional[Answer]:
        """The answer of ``operation``, or None where there is none."""
        if self._path is None:
            return None
        try:
            if self._opened is None:
                self._opened = self._open(self._path)
                self._inode = self._path.stat().st_ino
            return operation(self._opened)
        except ERRORS as error:
            # Where others keep it busy it is this time as if it held nothing.
            return None if is_busy(error) else self._recover(self._path, operation, error)

    def _recover(self, path: Path, operation: Callable[[Opened], Answer], error: Exception) -> Optional[Answer]:
        # Another process may have begun it anew in the meantime.
        replaced = self._opened is not None and _inode(path) != self._inode
        self.close()
        what = plain(str(error))[:200]
        if self._begun_anew or not is_damage(error):
            self._path = None
            self.say(f"cannot be used ({what}); going on without it")
            return None
        self._begun_anew = True
        self.say(f"is damaged ({what}) and is begun anew")
        if not replaced:
            with contextlib.suppress(OSError):
                remove(path)
        return self.attempt(operation)

    def say(self, what: str) -> None:
        """Prints what is wrong with it, once."""
        if what not in self._complaints:
            self._complaints.add(what)
            print(f"{self._what} {what}", file=sys.stderr)

    def close(self) -> None:
        """Lets go of the database; what is used again is opened again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def connect(path: Path, tables: Sequence[str], page: int = 4096) -> sqlite3.Connection:
    """The database at ``path``, which is made where it is missing by the statements ``tables``. Text in it is bytes.

    page: bytes of its pages, if it is made here; few values should take more than one page.
    Raises one of ``ERRORS``; see :func:`is_busy` and :func:`is_damage`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        # Text that is not UTF-8 is no error then.
        connection.text_factory = bytes
        if not connection.execute("PRAGMA page_count").fetchone()[0]:
            # Both can only be said of a new one, and the size first.
            connection.execute(f"PRAGMA page_size = {page}")
            # Space can be given back without a second copy of the database.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _log_changes(connection)
        if not _tables(connection):
            with transaction(connection):
                if not _tables(connection):
                    for table in tables:
                        connection.execute(table)
        if _tables(connection) != sorted(table.encode() for table in tables):
            raise sqlite3.DatabaseError("its tables are of another form")
    except BaseException:
        connection.close()
        raise
    return connection


def _log_changes(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Here SQLite itself does not wait.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")


def _tables(connection: sqlite3.Connection) -> list[Any]:
    return sorted(sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written in the block is, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has done so itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def files(path: Path) -> list[Path]:
    """The files of the database at ``path``."""
    # The logs of changes first: beside a new database they would be taken for that one's.
    return [file for suffix in ("-journal", "-wal", "-shm", "") if (file := Path(f"{path}{suffix}")).exists()]


def size_on_disk(path: Path) -> int:
    """Bytes that the files of the database at ``path`` have."""
    total = 0
    for file in files(path):
        # A log goes when another process closes the database.
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def remove(path: Path) -> None:
    """Removes the database at ``path``. Raises OSError."""
    for file in files(path):
        file.unlink(missing_ok=True)


def is_busy(error: Exception) -> bool:
    """Whether other processes kept the database busy for longer than ``PATIENCE``."""
    return isinstance(error, sqlite3.OperationalError) and "lock" in str(error)


def is_damage(error: Exception) -> bool:
    """Whether an error comes of what is in the database: not of other processes, and not of the place it lies in."""
    place = ("unable to open", "readonly", "is full", "I/O error", "denied")
    if isinstance(error, (OSError, sqlite3.ProgrammingError)) or is_busy(error):
        return False
    return not any(words in str(error) for words in place)


def _inode(path: Path) -> Optional[int]:
    try:
        return path.stat().st_ino
    except OSError:
        return None
