"""The command that looks into the feature cache."""

import contextlib
import os
import sqlite3
import time

import numpy as np
import pytest

from bench.pictures import photo
from stages import cache
from stages.common.errors import InputError
from stages.dataset import looking
from stages.dataset.sources.files import index, stamps
from stages.dataset.sources.files.places import Place
from stages.dataset.sources.files.stamps import Stamp
from stages.features.database import Database
from stages.features.store import FeatureCache
from tests.damage import KINDS, SOAK, damaged, seconds_of_at_most

DIM, COUNT = 1280, 400
FINGERPRINT = bytes(range(32))
DIGESTS = [number.to_bytes(32, "big") for number in range(COUNT)]
FEATURES = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache with some features."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    with contextlib.closing(opened(folder)) as filled:
        filled.put(DIGESTS, FEATURES)
    return folder


def opened(folder):
    return FeatureCache(folder, 1, FINGERPRINT, "test", DIM)


def printed(capsys, *arguments):
    cache.main(arguments)
    return capsys.readouterr().out


def held(folder):
    with contextlib.closing(opened(folder)) as features:
        return sum(feature is not None for feature in features.get(DIGESTS))


@pytest.mark.parametrize("arguments", [[], ["show"]])
def test_it_shows_what_is_there(folder, capsys, arguments):
    heading, line = printed(capsys, *arguments).splitlines()
    assert heading.startswith(f"{folder}: 0.002 GB of at most ")
    assert line == "       400  000102030405  test"


def test_it_drops_what_is_damaged(folder, capsys):
    with contextlib.closing(sqlite3.connect(folder / "features.db", isolation_level=None)) as connection:
        values = [b"rubbish", FINGERPRINT + DIGESTS[5]]
        connection.execute("UPDATE features SET value = ? WHERE key = ?", values)
    assert printed(capsys, "verify") == "400 entries read, 1 damaged and dropped\n"
    assert printed(capsys, "verify") == "399 entries read, 0 damaged and dropped\n"
    assert held(folder) == 399


def test_it_shrinks_it_to_a_size(folder, capsys):
    assert printed(capsys, "prune", "0.001") == "0.002 GB → 0.001 GB\n"
    assert 100 < held(folder) < 200
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.1e6


@pytest.mark.parametrize("size", ["nan", "inf", "-1", "much", "1e999"])
def test_a_size_that_is_none_is_refused(folder, capsys, size):
    with pytest.raises(SystemExit):
        cache.main(["prune", size])
    assert f"argument gb: must be a number from 0 (got '{size}')" in capsys.readouterr().err
    assert held(folder) == COUNT


@pytest.fixture
def looked_at(folder, tmp_path, monkeypatch):
    """Three image files that the index beside the cache knows."""
    monkeypatch.setattr(stamps, "TICK", 0)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        photo(number, (8, 8)).save(path)
    time.sleep(0.05)
    with contextlib.closing(index.Index(folder)) as known:
        looking.look([Place(str(path)) for path in paths], known)
        assert known.count() == 3
    return paths


def test_it_shows_prunes_and_clears_the_index_too(folder, looked_at, capsys):
    assert printed(capsys).endswith("         3  image files known without reading them\n")
    looked_at[1].unlink()
    assert "dropped from the index: 1 files that are gone or have changed" in printed(capsys, "prune", "1")
    assert printed(capsys).endswith("         2  image files known without reading them\n")
    printed(capsys, "clear")
    assert "image files" not in printed(capsys)


def test_it_drops_everything(folder, capsys):
    (folder / "calibrations").mkdir()
    (folder / "calibrations" / "00ff.json").touch()
    assert printed(capsys, "clear") == "dropped 0.002 GB\n"
    assert [path.name for path in folder.rglob("*")] == ["calibrations"]
    assert held(folder) == 0


@pytest.mark.parametrize("action", [["show"], ["verify"], ["prune", "0"]])
def test_what_cannot_be_read_is_one_sentence_and_can_be_dropped(folder, capsys, action):
    path = folder / "features.db"
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(40_000))
    with pytest.raises(InputError, match="cannot be read .*`python -m stages.cache clear` removes it") as error:
        cache.main(action)
    assert "\n" not in str(error.value)
    assert printed(capsys, "clear") == "dropped 0.000 GB\n"
    assert not path.exists()


def test_a_place_where_nothing_can_be_written_is_no_reason_to_remove_it(folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "/proc/self/cache")
    with pytest.raises((InputError, OSError)):
        cache.main([])
    (folder / "features.db").rename(folder / "kept")
    (folder / "features.db").mkdir()
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    with pytest.raises(
        InputError, match=r"\(unable to open database file\); look whether there is room, and the right"
    ):
        cache.main([])


def test_a_busy_cache_is_not_to_be_removed(folder, monkeypatch):
    monkeypatch.setattr("stages.common.caches.sqlite.PATIENCE", 0.1)
    with contextlib.closing(sqlite3.connect(folder / "features.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match=r"cannot be read \(database is locked\); run it again$"):
            cache.main(["prune", "0"])
    assert held(folder) == COUNT


def test_nothing_in_it_is_unpickled(folder, capsys, tmp_path):
    """What diskcache wrote with mode 4 or 2 it unpickled, or took for the name of a file."""
    import pickle

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    with contextlib.closing(Database(folder)) as database:
        database.write([(FINGERPRINT + DIGESTS[0], pickle.dumps(Trap())), (pickle.dumps(Trap()), pickle.dumps(Trap()))])
    for action in (["show"], ["verify"], ["prune", "0"], ["clear"]):
        cache.main(action)
    assert not (tmp_path / "sprung").exists()


def test_a_cache_that_is_off_is_said_to_be(monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    with pytest.raises(InputError, match="cache is off"):
        cache.main([])


def test_clearing_does_not_read_what_it_removes(folder):
    """Pages that lead to one another can make of a small database one that takes years to read."""
    os.mkfifo(folder / "index.db")
    (folder / "features.db").unlink()
    os.mkfifo(folder / "features.db")
    with seconds_of_at_most(20):
        cache.main(["clear"])
    assert list(folder.iterdir()) == []


# Damage


KEYS = [b"/photos/%03d.jpg" % number for number in range(200)]
STAMP = Stamp(100, 1, 1, 1)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Both databases, with much structure and little in it; returns the folder and its files."""
    folder = tmp_path / "small"
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    with contextlib.closing(FeatureCache(folder, 1, FINGERPRINT, "test", 8)) as features:
        features.put(DIGESTS, FEATURES[:, :8])
    with contextlib.closing(index.Index(folder)) as known:
        known.keep(index.Entry(key, STAMP, 2**60, index.Known("ab" * 32, None, "2")) for key in KEYS)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


def restore(folder, whole):
    for path in folder.iterdir():
        path.unlink()
    for name, data in whole.items():
        (folder / name).write_bytes(data)


def use(folder):
    """Asks and fills both; fails where one tells what is not so."""
    with contextlib.closing(FeatureCache(folder, 1, FINGERPRINT, "test", 8)) as features:
        for _ in range(2):
            found = features.get(DIGESTS)
            assert all(f is None or np.array_equal(f, FEATURES[row, :8]) for row, f in enumerate(found))
            features.put(DIGESTS, FEATURES[:, :8])
    with contextlib.closing(index.Index(folder)) as known:
        wanted = index.Known("ab" * 32, None, "2")
        assert set(known.known(dict.fromkeys(KEYS, STAMP)).values()) <= {wanted}
        assert known.known({key: STAMP._replace(changed=7) for key in KEYS}) == {}
        known.keep([index.Entry(KEYS[0], STAMP, 2**60, wanted)])


@pytest.mark.soak
@pytest.mark.parametrize("name", ["features.db", "index.db"])
def test_damage_costs_time_and_nothing_else(small, capsys, name):
    folder, whole = small
    actions = [], [["show"], ["verify"], ["prune", "0.00001"], ["show"]]
    for number, (kind, data) in enumerate(damaged(whole[name], bytes(len(whole[name])), 12 * SOAK, name)):
        restore(folder, {**whole, name: data})
        for action in actions[number // len(KINDS) % 2]:
            with seconds_of_at_most(60), contextlib.suppress(InputError):
                cache.main(action)
        use(folder)
        with seconds_of_at_most(20):
            cache.main(["clear"])
        assert [path.name for path in folder.iterdir()] == [], kind
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert all(line.isprintable() for line in (said.out + said.err).splitlines())


def test_it_takes_over_pulled_features(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "new"))
    said = "24 features in data/features, {} of them new in the feature cache\n"
    assert [printed(capsys, "seed") for _ in range(2)] == [said.format(24), said.format(0)]
