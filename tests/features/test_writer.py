"""Features go into the cache together, in a thread of their own, and all are there in the end."""

import threading
from contextlib import closing

import numpy as np
import pytest

from stages.features import writer
from stages.features.database import TRANSACTION
from stages.features.store import FeatureCache
from stages.features.writer import Writer

DIM = 3


@pytest.fixture
def cache(tmp_path):
    with closing(FeatureCache(tmp_path, "auto", bytes(32), "about", DIM)) as cache:
        yield cache


def digests(count):
    return [b"%032d" % number for number in range(count)]


def features(count):
    return np.arange(count * DIM, dtype=np.float32).reshape(count, DIM)


def held(cache, count):
    return [None if feature is None else feature.tolist() for feature in cache.get(digests(count))]


def test_all_are_there_in_the_end(cache):
    count = 2 * TRANSACTION + 5
    assert held(cache, 1) == [None]
    with closing(Writer(cache)) as made:
        for start in range(0, count, 7):
            made.put(digests(count)[start : start + 7], features(count)[start : start + 7])
    assert held(cache, count) == features(count).tolist()
    assert made.seconds > 0


def test_they_go_together_unless_they_have_waited(cache, monkeypatch):
    puts = []
    monkeypatch.setattr(cache, "put", lambda digests, features: puts.append(len(digests)))
    with closing(Writer(cache)) as made:
        for digest in digests(TRANSACTION + 1):
            made.put([digest], features(1))
        monkeypatch.setattr(writer, "PATIENCE", -1)
        made.put(digests(1), features(1))
        made.put(digests(1), features(1))
    assert puts == [TRANSACTION, 2, 1]


def test_while_some_are_written_others_are_taken_but_not_without_end(cache, monkeypatch):
    may = threading.Event()
    monkeypatch.setattr(cache, "put", lambda digests, features: may.wait(10))
    with closing(Writer(cache)) as made:
        made.put(digests(TRANSACTION), features(TRANSACTION))
        made.put(digests(TRANSACTION - 1), features(TRANSACTION - 1))
        full = threading.Thread(target=made.put, args=(digests(1), features(1)))
        full.start()
        full.join(0.05)
        assert full.is_alive()
        may.set()
        full.join(10)
        assert not full.is_alive()


def test_what_goes_wrong_is_raised(cache, monkeypatch):
    def fail(digests, features):
        raise ZeroDivisionError

    monkeypatch.setattr(cache, "put", fail)
    made = Writer(cache)
    made.put(digests(TRANSACTION), features(TRANSACTION))
    with pytest.raises(ZeroDivisionError):
        made.close()
