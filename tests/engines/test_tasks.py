"""Dealing: evenly, no sooner than asked for, and what a dead worker held once more."""

import pytest

from stages.common.errors import InputError
from stages.engines.tasks import Tasks


class Hands:
    """A worker, as far as dealing goes."""

    def __init__(self):
        self.tasks = []


def deal(tasks, workers, most):
    """Deals; returns the chunks that each worker holds then."""
    for worker, task in tasks.deal(workers, most):
        worker.tasks.append(task)
    return [[task.chunk for task in worker.tasks] for worker in workers]


def test_chunks_are_dealt_evenly():
    assert deal(Tasks(range(3), repr), [Hands(), Hands()], most=2) == [[0, 2], [1]]


def test_no_chunk_is_read_before_a_worker_takes_it():
    chunks = iter(range(10))
    assert deal(Tasks(chunks, repr), [Hands(), Hands()], most=2) == [[0, 2], [1, 3]]
    assert next(chunks) == 4


def test_asking_whether_there_are_chunks_loses_none():
    tasks = Tasks(range(2), repr)
    assert tasks and tasks
    assert deal(tasks, [Hands()], most=3) == [[0, 1]]
    assert not tasks


def test_what_was_taken_back_is_dealt_first_and_not_alone():
    tasks, lost = Tasks(range(4), repr), Hands()
    deal(tasks, [lost], most=2)
    tasks.take_back(lost.tasks)
    assert deal(tasks, [Hands()], most=3) == [[0, 1, 2]]


def test_a_suspect_is_alone_in_its_worker():
    tasks, lost, busy = Tasks(range(7), repr), Hands(), Hands()
    deal(tasks, [lost, busy], most=2)
    tasks.suspect(lost.tasks, "exit code 1")
    assert deal(tasks, [busy, Hands(), Hands(), Hands()], most=3) == [[1, 3, 6], [0], [2], [4, 5]]


def test_a_second_death_names_the_chunk_that_was_alone():
    tasks, lost, again = Tasks("ab", lambda chunk: f"the file {chunk}"), Hands(), Hands()
    deal(tasks, [lost], most=2)
    tasks.suspect(lost.tasks, "exit code 1")
    assert deal(tasks, [again], most=2) == [["a"]]
    with pytest.raises(
        InputError, match=r"^two workers died \(the last: exit code 2\) while they worked on the file a:"
    ):
        tasks.suspect(again.tasks, "exit code 2")
