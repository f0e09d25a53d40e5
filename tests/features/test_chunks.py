"""Chunks: to whom rows go and to whom bytes, and what the driver says of files that nobody can read."""

import hashlib

import pytest

from stages.common.errors import InputError
from stages.dataset.sources.files.places import Place
from stages.engines.contract import Worker
from stages.features.chunks import Chunks

SEEING, BLIND = Worker("here", "a"), Worker("there", "b")


@pytest.fixture
def chunks(tmp_path, monkeypatch):
    """Of five files 0 to 4, two at a time; they are in the folder the test is in."""
    monkeypatch.chdir(tmp_path)
    places = {}
    for n in range(5):
        (tmp_path / f"{n}").write_bytes(b"%d" % n)
        places[hashlib.sha256(b"%d" % n).digest()] = Place(f"{n}")
    return Chunks(list(places), places.__getitem__, 2)


def test_rows_have_what_another_process_needs_to_find_the_files(chunks, tmp_path):
    found = list(chunks)
    assert len(found) == chunks.count == 3
    assert [chunk.paths for chunk in found] == [["0", "1"], ["2", "3"], ["4"]]
    assert found[2].places == [Place(f"{tmp_path}/4")] and found[2].files is None
    assert chunks.packed(SEEING, found[2]) == found[2]
    assert chunks.shipped == 0


def test_what_one_worker_could_not_read_is_sent_to_whoever_gets_it_and_that_worker_is_sent_all(chunks):
    first = next(chunks)
    chunks.ship(BLIND, first)
    assert next(chunks) is first
    assert chunks.packed(SEEING, first).files == [b"0", b"1"]
    second = next(chunks)
    assert chunks.packed(SEEING, second).files is None
    assert chunks.packed(BLIND, second).files == [b"2", b"3"]
    assert chunks.shipped == 4


def test_after_the_last_one_there_may_be_another(chunks):
    *_, last = chunks
    assert next(chunks, None) is None
    chunks.ship(BLIND, last)
    assert list(chunks) == [last]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"other", "1 was changed since it was looked at: run the same command again"),
        (None, "1 cannot be read (No such file or directory): `dvc repro` takes up what has changed"),
    ],
)
def test_what_the_driver_cannot_read_either_is_named(chunks, tmp_path, data, message):
    chunk = next(chunks)
    chunks.ship(BLIND, chunk)
    (tmp_path / "1").unlink()
    if data is not None:
        (tmp_path / "1").write_bytes(data)
    with pytest.raises(InputError) as refused:
        chunks.packed(SEEING, chunk)
    assert str(refused.value) == message
    assert chunks.shipped == 0
