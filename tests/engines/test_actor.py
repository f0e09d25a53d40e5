"""A worker on a Ray cluster, without the cluster: Ray hands over what it was given."""

import pickle
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from stages.common.errors import InputError
from stages.engines.actor import Actor
from tests.conftest import ROOT
from tests.engines.work import broken

SET_UP, STARTED, RELEASED = [], queue.Queue(), threading.Event()


def waiting(device, threads):
    """Starts chunks at once; their results, the doubles, are there when RELEASED is set."""
    SET_UP.append((device, threads))

    def start(chunk):
        STARTED.put(chunk)

        def finish():
            assert RELEASED.wait(30)
            return 2 * chunk

        return finish

    return start


@pytest.fixture(autouse=True)
def without_cluster(monkeypatch):
    monkeypatch.setattr(ray, "get", lambda reference: reference)


def test_a_worker_sets_up_once_and_starts_a_chunk_while_another_is_computed():
    actor = Actor([pickle.dumps(waiting)], "cpu(0)", 3)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(actor.do, pickle.dumps(chunk)) for chunk in (1, 2)]
        assert {STARTED.get(timeout=30), STARTED.get(timeout=30)} == {1, 2}
        assert not any(result.done() for result in results)
        RELEASED.set()
        assert [result.result() for result in results] == [2, 4]
    assert SET_UP == [("cpu(0)", 3)]


def test_what_fails_in_setting_up_is_raised_for_a_chunk():
    with pytest.raises(InputError, match=r"^there is no gpu\(0\)$"):
        Actor([pickle.dumps(broken)], "gpu(0)", 1).do(pickle.dumps(1))


def test_a_worker_needs_nothing_of_the_drivers():
    program = (
        "import sys, stages.engines.actor\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] == 'stages'))\n"
        "print(*{'joblib', 'mxnet', 'numpy', 'pydantic', 'ray', 'sqlite3', 'yaml'} & set(sys.modules))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    ours, others = found.stdout.splitlines()
    assert ours.split() == ["stages", "stages.engines", "stages.engines.actor", "stages.engines.contract"]
    assert not others
