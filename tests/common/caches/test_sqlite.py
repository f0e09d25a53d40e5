"""Databases that can be done without: whatever becomes of one, what is asked of it is answered or not, never raised."""

import contextlib
import sqlite3

import pytest

from stages.common.caches.sqlite import Expendable, connect, files, remove, transaction

TABLE = "CREATE TABLE numbers (n INTEGER)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "some.db"


@pytest.fixture
def kept(path):
    kept = Expendable("the database", path, lambda path: connect(path, [TABLE]))
    yield kept
    kept.close()


def numbers(connection):
    return [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


def add(connection, *values):
    with transaction(connection):
        for value in values:
            connection.execute("INSERT INTO numbers VALUES (?)", [value])


def test_it_is_made_where_it_is_missing(path, kept):
    assert not path.exists() and kept.usable
    assert kept.attempt(numbers) == []
    assert path.exists()


def test_all_of_a_transaction_is_written_or_nothing(kept):
    kept.attempt(lambda connection: add(connection, 1, 2))
    with pytest.raises(TypeError), contextlib.closing(kept):
        kept.attempt(lambda connection: add(connection, 3, *5))
    kept.attempt(lambda connection: add(connection, 4))
    assert kept.attempt(numbers) == [1, 2, 4]


def test_what_is_damaged_is_begun_anew_and_said_once(path, kept, capsys):
    for answer in ([], None, None):
        kept.close()
        remove(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no database " * 1000)
        assert kept.attempt(numbers) == answer
    assert not kept.usable
    assert capsys.readouterr().err == (
        "the database is damaged (file is not a database) and is begun anew\n"
        "the database cannot be used (file is not a database); going on without it\n"
    )


def test_its_message_may_quote_any_bytes(kept, capsys):
    def fail(connection):
        raise sqlite3.DatabaseError("\x1b[31m" + "long" * 1000)

    assert kept.attempt(fail) is None
    assert "\x1b" not in (said := capsys.readouterr().err)
    assert len(said) < 1000


def test_all_its_files_are_removed(path):
    path.parent.mkdir()
    names = [f"some.db{suffix}" for suffix in ("-journal", "-wal", "-shm", "")]
    for name in names:
        path.with_name(name).touch()
    assert [file.name for file in files(path)] == names
    for _ in range(2):
        remove(path)
        assert list(path.parent.iterdir()) == []
