"""The database of features: what it tells, how it shrinks, and what it does beside others."""

import contextlib
import os
import shutil
import sqlite3
import threading
import time

import numpy as np
import pytest

from stages.common.caches import sqlite
from stages.features import database
from stages.features.database import Database, seal

COUNT, BYTES = 400, 5120


def key(number, fingerprint=b"f"):
    return fingerprint * 32 + number.to_bytes(32, "big")


def entries(numbers, fingerprint=b"f"):
    for number in numbers:
        name = key(number, fingerprint)
        yield name, seal(name, number.to_bytes(4, "big") * (BYTES // 4))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def filled(folder):
    """With some entries, the later ones used later."""
    with contextlib.closing(Database(folder, 1)) as made:
        for number in range(COUNT):
            made.write(entries([number]))
        yield made


def bytes_on_disk(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_its_size_is_that_of_what_is_in_it(filled, folder):
    assert COUNT * BYTES < filled.size < 1.3 * COUNT * BYTES
    with sqlite3.connect(folder / "features.db") as connection:
        connection.execute("DELETE FROM features")
    assert filled.size < 12 * database.PAGE


def test_pruning_drops_what_was_used_first_and_gives_the_space_back(filled, folder):
    filled.prune(1e6)
    held = [bool(filled.read([key(number)])) for number in range(COUNT)]
    first = held.index(True)
    assert held == [False] * first + [True] * (COUNT - first)
    # No more of them than necessary.
    assert 1e6 - database.DROPPED * 1.3 * BYTES < filled.size <= 1e6
    assert bytes_on_disk(folder) < 1.1e6
    filled.prune(0)
    assert filled.count() == 0
    assert bytes_on_disk(folder) < 24 * database.PAGE


def test_what_does_not_fit_at_all_is_dropped(folder):
    with contextlib.closing(Database(folder, 1e-6)) as small:
        small.write(entries(range(100)))
        assert small.count() == 0


def test_a_limit_without_bounds_is_one(folder):
    with contextlib.closing(Database(folder, 1e300)) as large:
        large.write(entries(range(3)))
        assert large.count() == 3


def test_left_to_itself_the_limit_is_a_share_of_the_disk(filled, folder):
    filled.close()
    with contextlib.closing(Database(folder)) as again:
        usage = shutil.disk_usage(folder)
        assert again.limit == pytest.approx(database.SHARE * (usage.free + bytes_on_disk(folder)), rel=0.01)


def test_it_tells_how_many_features_there_are_of_what(filled):
    filled.write(entries(range(3), b"a"))
    filled.describe(b"a" * 32, "vgg16 fc6")
    filled.describe(b"a" * 32, "vgg16 fc6 again")
    assert filled.counts() == [(b"f" * 32, COUNT, "?"), (b"a" * 32, 3, "vgg16 fc6 again")]
    assert filled.count() == COUNT + 3


@pytest.mark.parametrize(
    ("text", "told"),
    [("\x1b[31mred\a", "\\u001b[31mred\\u0007"), ("long" * 1000, "long" * 50), (b"\xff\xfe", "\ufffd\ufffd"), (7, "7")],
)
def test_a_crafted_description_reaches_no_terminal(filled, folder, text, told):
    with sqlite3.connect(folder / "features.db") as connection:
        connection.execute("INSERT INTO about VALUES (?, CAST(? AS TEXT))", [b"f" * 32, text])
    assert filled.counts() == [(b"f" * 32, COUNT, told)]


@pytest.mark.parametrize("name", [b"", b"short", "text", 7, 2.5])
def test_a_crafted_key_is_told_and_dropped(filled, folder, name):
    with sqlite3.connect(folder / "features.db") as connection:
        connection.execute("INSERT INTO features VALUES (?, 0, ?)", [name, b"value"])
    assert sum(count for _, count, _ in filled.counts()) == COUNT + 1
    assert filled.verify() == (COUNT + 1, 1)
    assert filled.verify() == (COUNT, 0)


def test_use_is_noted_but_not_every_time(filled, folder, monkeypatch):
    def used():
        with sqlite3.connect(folder / "features.db") as connection:
            return connection.execute("SELECT used FROM features WHERE key = ?", [key(0)]).fetchone()[0]

    before = used()
    filled.read([key(0)])
    assert used() == before
    monkeypatch.setattr(database, "NOTED", 0)
    filled.read([key(0)])
    assert used() > before


def test_readers_do_not_wait_for_a_writer(filled, folder):
    with contextlib.closing(sqlite3.connect(folder / "features.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert filled.read([key(0)])
        assert time.monotonic() - begun < 1


def test_a_database_that_others_keep_busy_is_busy_not_damaged(folder, filled, monkeypatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.2)
    with contextlib.closing(sqlite3.connect(folder / "features.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with contextlib.closing(Database(folder, 1)) as ours:
            with pytest.raises(sqlite3.OperationalError) as error:
                ours.write(entries([COUNT]))
            assert sqlite.is_busy(error.value) and not sqlite.is_damage(error.value)
            other.execute("ROLLBACK")
            ours.write(entries([COUNT]))
            assert ours.count() == COUNT + 1


def test_many_may_open_it_at_once(folder):
    errors = []

    def use(number):
        try:
            with contextlib.closing(Database(folder, 1)) as own:
                own.write(entries([number]))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with contextlib.closing(Database(folder, 1)) as found:
        assert found.count() == 16
        # Whoever made it, it can be shrunk.
        found.prune(0)
    assert bytes_on_disk(folder) < 14 * database.PAGE


def test_an_index_of_uses_that_is_empty_is_damage(filled, folder):
    with contextlib.closing(sqlite3.connect(folder / "features.db")) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_use'").fetchone()[0]
    filled.close()
    data = bytearray((folder / "features.db").read_bytes())
    # An empty leaf of an index.
    start = (root - 1) * database.PAGE
    data[start : start + 8] = b"\x0a\0\0\0\0" + database.PAGE.to_bytes(2, "big") + b"\0"
    (folder / "features.db").write_bytes(data)
    with contextlib.closing(Database(folder, 1)) as damaged:
        with pytest.raises(sqlite3.DatabaseError) as error:
            damaged.prune(1e6)
        assert sqlite.is_damage(error.value)


def test_one_of_the_old_form_is_told_about_once_and_left_alone(folder, capsys):
    folder.mkdir()
    (folder / "cache.db").write_bytes(b"of the old form")
    for number in range(2):
        with contextlib.closing(Database(folder, 1)) as new:
            new.write(entries([number]))
    said = capsys.readouterr().err
    assert said == f"{folder}/cache.db is the feature cache of an earlier version and no longer used\n"
    assert (folder / "cache.db").read_bytes() == b"of the old form"
    sqlite.remove(folder / "features.db")
    assert os.listdir(folder) == ["cache.db"]


def test_values_are_as_documented(filled, folder):
    with sqlite3.connect(folder / "features.db") as connection:
        [value] = connection.execute("SELECT value FROM features WHERE key = ?", [key(3)]).fetchone()
    assert len(value) == BYTES + 4
    assert np.frombuffer(value[4:], ">u4").tolist() == [3] * (BYTES // 4)
    assert filled.read([key(3), key(COUNT)]) == {key(3): value}
    assert database.unseal(key(3), value) == value[4:]
    assert database.unseal(key(4), value) is None
