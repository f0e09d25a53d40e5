"""The feature cache: what was put is given back, or nothing; never something else, never a crash."""

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.common.caches import sqlite
from stages.common.caches.folders import cache_folder
from stages.features import database
from stages.features.store import FeatureCache
from tests.conftest import ROOT
from tests.damage import SOAK

FINGERPRINT = bytes(range(32))
DIM = 1280
RNG = np.random.default_rng(0)


def digest(number):
    return number.to_bytes(32, "big")


def some(count, dim=DIM):
    return [digest(i) for i in range(count)], RNG.standard_normal((count, dim)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def opened(folder, fingerprint=FINGERPRINT, limit_gb=1, dim=DIM):
    return FeatureCache(folder, limit_gb, fingerprint, "test", dim)


def rows(folder):
    """A plain connection to the database, for what is to be looked at or damaged there."""
    return contextlib.closing(sqlite3.connect(folder / "features.db", isolation_level=None))


def put(folder, count):
    """Puts some features; returns them with their digests. Everything is in the one file after that."""
    digests, features = some(count)
    first = opened(folder)
    first.put(digests, features)
    first.close()
    return digests, features


def test_gives_back_what_was_put(folder):
    digests, features = some(600)
    opened(folder).put(digests, features)
    found = opened(folder).get([*digests, digest(1000)])
    assert np.array_equal(np.stack(found[:-1]), features)
    assert found[-1] is None


def test_another_fingerprint_has_features_of_its_own(folder):
    digests, features = some(3)
    opened(folder).put(digests, features)
    assert opened(folder, b"x" * 32).get(digests) == [None] * 3


def test_switched_off_it_holds_nothing(capsys):
    digests, features = some(3)
    off = FeatureCache(None, 1, FINGERPRINT, "test", DIM)
    off.put(digests, features)
    assert off.get(digests) == [None] * 3
    assert not off.usable
    assert capsys.readouterr().err == ""


def test_a_damaged_entry_is_not_given_back(folder, capsys):
    digests, features = put(folder, 3)
    with rows(folder) as connection:
        key = FINGERPRINT + digests[0]
        value = bytearray(connection.execute("SELECT value FROM features WHERE key = ?", [key]).fetchone()[0])
        value[100] ^= 1
        connection.execute("UPDATE features SET value = ? WHERE key = ?", [bytes(value), key])
        key = FINGERPRINT + digests[1]
        connection.execute("UPDATE features SET value = substr(value, 1, 5000) WHERE key = ?", [key])
    found = opened(folder).get(digests)
    assert found[0] is None
    assert found[1] is None
    assert np.array_equal(found[2], features[2])
    assert capsys.readouterr().err.count("damaged entries") == 1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0" * 4,
        "text",
        7,
        0.5,
        database.seal(FINGERPRINT + digest(0), b""),
        database.seal(FINGERPRINT + digest(0), bytes(4 * DIM + 4)),
        database.seal(FINGERPRINT + digest(0), bytes(4 * DIM - 2)),
        database.seal(FINGERPRINT + digest(1), bytes(4 * DIM)),
    ],
    ids=["empty", "short", "text", "integer", "real", "nothing", "longer", "odd", "another's"],
)
def test_a_crafted_entry_is_not_given_back(folder, capsys, value):
    digests, features = put(folder, 3)
    with rows(folder) as connection:
        connection.execute("UPDATE features SET value = ? WHERE key = ?", [value, FINGERPRINT + digests[0]])
    again = opened(folder)
    found = again.get(digests)
    assert found[0] is None
    assert np.array_equal(np.stack(found[1:]), features[1:])
    assert capsys.readouterr().err == f"the feature cache in {folder} has damaged entries; they are computed again\n"
    again.put(digests[:1], features[:1])
    assert np.array_equal(again.get(digests)[0], features[0])


@pytest.mark.parametrize("used", ["never", b"never", 2.5, 2**63 - 1, -(2**63)])
def test_a_crafted_time_of_use_does_no_harm(folder, used):
    digests, features = put(folder, 3)
    with rows(folder) as connection:
        connection.execute("UPDATE features SET used = ?", [used])
    small = opened(folder, limit_gb=0.003)
    assert np.array_equal(np.stack(small.get(digests)), features)
    with rows(folder) as connection:
        assert all(abs(used / 1e6 - time.time()) < 60 for (used,) in connection.execute("SELECT used FROM features"))


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE other (x)",
        "DROP TABLE about",
        "DROP INDEX by_use",
        "ALTER TABLE features RENAME COLUMN used TO spent",
        "CREATE TRIGGER t AFTER INSERT ON features BEGIN DELETE FROM features; END",
        "DROP TABLE features; CREATE VIEW features AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT i AS key, i AS used, i AS value FROM n",
    ],
)
def test_tables_of_another_form_are_damage(folder, capsys, change):
    digests, features = put(folder, 3)
    with rows(folder) as connection:
        connection.executescript(change)
    again = opened(folder)
    assert again.get(digests) == [None] * 3
    again.put(digests, features)
    assert np.array_equal(np.stack(again.get(digests)), features)
    assert capsys.readouterr().err == (
        f"the feature cache in {folder} is damaged (its tables are of another form) and is begun anew\n"
    )


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle", "empty"])
def test_a_damaged_database_is_begun_anew(folder, capsys, damage):
    digests, features = put(folder, 300)
    path = folder / "features.db"
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:] = b"not a database " * 100
    elif damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "empty":
        del data[:]
    else:
        data[4096 : len(data) - 4096] = os.urandom(len(data) - 8192)
    path.write_bytes(data)

    again = opened(folder)
    found = again.get(digests)
    assert all(f is None or np.array_equal(f, features[i]) for i, f in enumerate(found))
    again.put(digests, features)
    assert np.array_equal(np.stack(opened(folder).get(digests)), features)
    assert ("is damaged" in capsys.readouterr().err) == (damage != "empty")


def test_what_is_put_into_a_damaged_database_is_kept(folder):
    digests, features = put(folder, 300)
    path = folder / "features.db"
    data = path.read_bytes()
    path.write_bytes(data[:8192] + os.urandom(len(data) - 8192))
    cache = opened(folder)
    cache.put(digests, features)
    assert np.array_equal(np.stack(cache.get(digests)), features)


def test_a_database_that_another_process_has_begun_anew_is_left_to_both(folder, capsys):
    digests, features = put(folder, 300)
    path = folder / "features.db"
    ours = opened(folder)
    with open(path, "r+b") as old:
        sqlite.remove(path)
        put(folder, 300)
        new = path.stat().st_ino
        old.seek(8192)
        old.write(os.urandom(path.stat().st_size - 8192))
    assert np.array_equal(np.stack(ours.get(digests))[0], opened(folder).get(digests)[0])
    assert "is damaged" in capsys.readouterr().err
    assert path.stat().st_ino == new


@pytest.mark.parametrize("where", ["/proc/headstart", "/dev/null/cache"])
def test_a_place_that_cannot_be_written_is_done_without(where, capsys):
    digests, features = some(2)
    unusable = opened(Path(where))
    unusable.put(digests, features)
    assert unusable.get(digests) == [None, None]
    assert not unusable.usable
    printed = capsys.readouterr().err
    assert "going on without it" in printed
    assert printed.count("\n") == 1


def test_a_full_disk_is_done_without(folder):
    # A limit on the size of files stands in for a full disk.
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    program = (
        "from tests.features.test_store import *\n"
        "digests, features = some(1000)\n"
        "c = opened(Path(sys.argv[1]))\n"
        "for i in range(0, 1000, 16): c.put(digests[i:i+16], features[i:i+16])\n"
        "print(c.usable, len(c.get(digests)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, preexec_fn=small_files, capture_output=True, text=True
    )
    assert done.stdout == "False 1000\n"
    assert done.stderr.count("going on without it") == 1
    # What had been kept is still there, and right.
    assert all(f is None or f.shape == (1280,) for f in opened(folder).get(some(1000)[0]))


def test_the_least_recently_used_go_first_when_it_is_full(folder, monkeypatch):
    monkeypatch.setattr(database, "NOTED", 0)
    digests, features = some(1000)
    small = opened(folder, limit_gb=0.003)
    small.put(digests[:100], features[:100])
    for start in range(100, 1000, 50):
        assert small.get(digests[:10])[0] is not None
        small.put(digests[start : start + 50], features[start : start + 50])
    kept = [f is not None for f in small.get(digests)]
    assert all(kept[:10])
    assert not all(kept)
    assert sum(file.stat().st_size for file in folder.glob("features.db")) < 5e6


RACE = """
from tests.features.test_store import *
cache = opened(Path(sys.argv[1]), dim=64)
for n in range(20):
    numbers = range(n * 16, n * 16 + 16)
    keys = [digest(number) for number in numbers]
    cache.put(keys, np.stack([np.full(64, number, np.float32) for number in numbers]))
    for number, found in zip(numbers, cache.get(keys)):
        assert found is None or (found == number).all()
        assert found is not None or DAMAGED in sys.argv
assert cache.usable or DAMAGED in sys.argv
"""
DAMAGED = "damaged"


def race(folder, *arguments):
    command = [sys.executable, "-c", RACE, str(folder), *arguments]
    return [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]


@pytest.mark.soak
def test_several_processes_use_it_at_once(folder):
    for number in range(SOAK):
        processes = race(folder / str(number))
        assert [process.communicate()[1] for process in processes] == ["", "", ""]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert all(f is not None for f in opened(folder / str(number), dim=64).get([digest(i) for i in range(320)]))


@pytest.mark.soak
def test_damage_while_several_processes_use_it_makes_none_fail_or_lie(folder):
    random, path = np.random.default_rng(0), folder / "features.db"
    for _ in range(SOAK):
        with contextlib.closing(opened(folder, dim=64)) as cache:
            cache.put([digest(number) for number in range(1000, 1100)], np.zeros((100, 64), np.float32))
        processes = race(folder, DAMAGED)
        while any(process.poll() is None for process in processes):
            with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
                file.seek(random.integers(path.stat().st_size + 1))
                file.write(random.bytes(4))
            time.sleep(0.01)
        said = [process.communicate()[1].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], said
        assert all(line.startswith("the feature cache in ") for lines in said for line in lines)


def test_the_variable_comes_before_the_setting(monkeypatch, tmp_path):
    monkeypatch.delenv("HEADSTART_CACHE")
    assert cache_folder("off") is None
    assert cache_folder(str(tmp_path)) == tmp_path
    assert "headstart" in str(cache_folder("auto"))
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    assert cache_folder("auto") is None
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    assert cache_folder("off") == tmp_path
