"""A process that works for itself."""

import os

import joblib
import pytest

from stages.common.errors import InputError
from stages.engines import inline
from stages.engines.contract import Work
from tests.engines.work import double, leisurely, refusing


def run(setup, chunks, **options):
    return list(inline.engine("cpu(0)")(Work(setup, chunks, count=1, **options)))


def test_this_process_does_every_chunk_with_all_cores():
    found = run(double, [[1], [2, 3]])
    assert [(chunk, result[:4]) for _, chunk, result in found] == [
        ([1], ([2], "cpu(0)", joblib.cpu_count(), os.getpid())),
        ([2, 3], ([4, 6], "cpu(0)", joblib.cpu_count(), os.getpid())),
    ]
    assert len({worker for worker, _, _ in found}) == 1


def test_a_chunk_can_be_dealt_out_again():
    again = []

    class Chunks:
        first = iter([[1]])

        def __iter__(self):
            return self

        def __next__(self):
            return again.pop() if again else next(self.first)

    found = []
    for _, chunk, _ in inline.engine("cpu(0)")(Work(double, Chunks(), count=1)):
        found.append(chunk)
        if len(found) == 1:
            again.append([7])
    assert found == [[1], [7]]


def test_the_variables_are_set(monkeypatch):
    monkeypatch.setenv("HEADSTART_TEST", "before")
    assert [result for _, _, result in run(leisurely, [1], environment={"HEADSTART_TEST": "yes"})] == ["yes"]


def test_an_input_error_is_raised_as_it_is():
    with pytest.raises(InputError, match="^chunk 3 is bad$"):
        run(refusing, [3])
