"""Which workers a driver asks for on a Ray cluster, and what it says while none comes; without a cluster."""

from types import SimpleNamespace

import pytest
import ray

from stages.common.errors import InputError
from stages.engines import crew
from stages.engines.contract import Work
from tests.engines.work import double


class Stillborn:
    """As much of Ray as it takes to ask for workers, on a cluster with ``free`` cores where each dies at its start."""

    cloudpickle, exceptions = ray.cloudpickle, ray.exceptions

    def __init__(self, free):
        self.free, self.asked = free, 0

    def nodes(self):
        return []

    def available_resources(self):
        return {"CPU": self.free}

    def put(self, value):
        return value

    def remote(self, actor):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._ask))

    def _ask(self, *_):
        self.asked += 1
        return SimpleNamespace(place=SimpleNamespace(remote=object))

    def wait(self, references, num_returns, timeout):
        return list(references), []

    def get(self, reference):
        raise ray.exceptions.RayError("it ran out of memory")


def made(free, chunks, workers):
    cluster = Stillborn(free)
    return cluster, crew.Crew(cluster, Work(double, [], chunks), "cpu", workers)


@pytest.mark.parametrize(
    "free, chunks, workers, asked",
    [(3, 10, "auto", 3), (3, 2, "auto", 2), (0, 10, "auto", 1), (0, 10, 4, 4), (0, 2, 4, 2)],
)
def test_it_asks_for_what_is_free_or_wanted_and_for_one_at_least(free, chunks, workers, asked):
    cluster, found = made(free, chunks, workers)
    found.grow()
    assert cluster.asked == asked
    # Those are still waiting for their places.
    found.grow()
    assert cluster.asked == asked


def test_workers_that_die_at_their_start_are_an_error_in_the_end():
    cluster, found = made(0, 10, "auto")
    for _ in range(crew.STILLBORN - 1):
        found.grow()
        found.wait()
    found.grow()
    with pytest.raises(InputError, match="^no worker starts on the Ray cluster: .*it ran out of memory"):
        found.wait()
    assert cluster.asked == crew.STILLBORN


def test_waiting_for_a_place_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(crew, "PATIENCE", -1)
    monkeypatch.setattr(crew, "LOOK", 0)
    found = made(0, 10, "auto")[1]
    found.wait()
    found.wait()
    assert capsys.readouterr().err == "waiting for a free core or GPU on the Ray cluster (`ray status` shows it)\n"
