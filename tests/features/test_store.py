"""The feature cache: what was put is given back, or nothing; never something else, never a crash."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from stages import cache as command
from stages.common.errors import InputError
from stages.features import store as cache
from stages.features.store import FeatureCache
from tests.conftest import ROOT

FINGERPRINT = bytes(range(32))
RNG = np.random.default_rng(0)


def digest(number):
    return number.to_bytes(32, "big")


def some(count, dim=1280):
    return [digest(i) for i in range(count)], RNG.standard_normal((count, dim)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def opened(folder, fingerprint=FINGERPRINT, limit_gb=1):
    return FeatureCache(folder, limit_gb, fingerprint, "test")


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
    off = FeatureCache(None, 1, FINGERPRINT, "test")
    off.put(digests, features)
    assert off.get(digests) == [None] * 3
    assert not off.usable
    assert capsys.readouterr().err == ""


def test_a_damaged_entry_is_not_given_back(folder, capsys):
    digests, features = some(3)
    opened(folder).put(digests, features)
    with cache.open_store(folder) as store:
        key = FINGERPRINT + digests[0]
        value = bytearray(store.get(key))
        value[100] ^= 1
        store.set(key, bytes(value))
        store.set(FINGERPRINT + digests[1], store.get(FINGERPRINT + digests[1])[:-4])
    found = opened(folder).get(digests)
    assert found[0] is None
    assert found[1] is None
    assert np.array_equal(found[2], features[2])
    assert capsys.readouterr().err.count("damaged entries") == 1


def test_an_entry_under_a_wrong_key_is_not_given_back(folder):
    digests, features = some(2)
    opened(folder).put(digests, features)
    with cache.open_store(folder) as store:
        store.set(FINGERPRINT + digests[0], store.get(FINGERPRINT + digests[1]))
    assert opened(folder).get(digests)[0] is None


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle"])
def test_a_damaged_database_is_begun_anew(folder, capsys, damage):
    digests, features = some(300)
    first = opened(folder)
    first.put(digests, features)
    first.close()
    database = folder / "cache.db"
    for other in folder.glob("cache.db-*"):
        other.unlink()
    data = bytearray(database.read_bytes())
    if damage == "garbage":
        data[:] = b"not a database " * 100
    elif damage == "truncated":
        del data[len(data) // 2 :]
    else:
        data[4096 : len(data) - 4096] = os.urandom(len(data) - 8192)
    database.write_bytes(data)

    again = opened(folder)
    found = again.get(digests)
    assert all(f is None or np.array_equal(f, features[i]) for i, f in enumerate(found))
    again.put(digests, features)
    assert np.array_equal(np.stack(opened(folder).get(digests)), features)
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["/proc/headstart", "/dev/null/cache"])
def test_a_place_that_cannot_be_written_is_done_without(place, capsys):
    digests, features = some(2)
    unusable = opened(cache.Path(place))
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
        "c = opened(cache.Path(sys.argv[1]))\n"
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
    monkeypatch.setattr(cache, "NOTED", 0)
    digests, features = some(1000)
    small = opened(folder, limit_gb=0.003)
    small.put(digests[:100], features[:100])
    for start in range(100, 1000, 50):
        assert small.get(digests[:10])[0] is not None
        small.put(digests[start : start + 50], features[start : start + 50])
    kept = [f is not None for f in small.get(digests)]
    assert all(kept[:10])
    assert not all(kept)
    assert sum(file.stat().st_size for file in folder.glob("cache.db")) < 5e6


def test_several_processes_use_it_at_once(folder):
    program = (
        "from tests.features.test_store import *\n"
        "c = opened(cache.Path(sys.argv[1]))\n"
        "for n in range(20):\n"
        "    keys = [digest(n * 16 + i) for i in range(16)]\n"
        "    c.put(keys, np.stack([np.full(64, n * 16 + i, np.float32) for i in range(16)]))\n"
        "    for i, f in enumerate(c.get(keys)): assert f is not None and (f == n * 16 + i).all()\n"
        "assert c.usable\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[1] for process in processes] == ["", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(f is not None for f in opened(folder).get([digest(i) for i in range(320)]))


def test_the_variable_comes_before_the_setting(monkeypatch, tmp_path):
    monkeypatch.delenv("HEADSTART_CACHE")
    assert cache.place("off") is None
    assert cache.place(str(tmp_path)) == tmp_path
    assert "headstart" in str(cache.place("auto"))
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    assert cache.place("auto") is None
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    assert cache.place("off") == tmp_path


def test_the_command_shows_verifies_prunes_and_clears(folder, monkeypatch, capsys):
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    digests, features = some(400)
    first = opened(folder)
    first.put(digests, features)
    first.close()

    command.main([])
    assert "400  000102030405  test" in capsys.readouterr().out
    with cache.open_store(folder) as store:
        store.set(FINGERPRINT + digests[5], b"rubbish")
    command.main(["verify"])
    assert "1 damaged and dropped" in capsys.readouterr().out
    command.main(["verify"])
    assert "0 damaged" in capsys.readouterr().out
    command.main(["prune", "0.001"])
    assert 0 < sum(f is not None for f in opened(folder).get(digests)) < 399
    command.main(["clear"])
    assert opened(folder).get(digests) == [None] * 400

    monkeypatch.setenv("HEADSTART_CACHE", "off")
    with pytest.raises(InputError, match="cache is off"):
        command.main([])
