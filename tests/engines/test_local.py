"""Worker processes: every chunk is done once, whatever happens to the workers."""

import os
import subprocess
import sys
import time
from contextlib import closing

import joblib
import psutil
import pytest

from stages.common.errors import InputError
from stages.engines import local
from stages.engines.contract import Work
from tests.conftest import ROOT
from tests.engines.work import broken, double, fragile, leisurely, refusing


def run(setup, devices, chunks, **options):
    """(chunk, result) of every chunk, by worker processes on ``devices``."""
    return ((chunk, result) for _, chunk, result in answers(setup, devices, chunks, **options))


def answers(setup, devices, chunks, **options):
    return local.engine(devices)(
        Work(setup, chunks, count=len(chunks) if hasattr(chunks, "__len__") else 100, **options)
    )


def slow(device, threads):
    def start(chunk):
        time.sleep(60)
        return lambda: chunk

    return start


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_chunk_is_done_once(count):
    chunks = [[i, i + 1] for i in range(0, 40, 2)]
    done = list(run(double, [f"cpu({i})" for i in range(count)], chunks))
    assert sorted(chunk for chunk, _ in done) == chunks
    assert all(result[0] == [2 * x for x in chunk] for chunk, result in done)
    assert len({result[1] for _, result in done}) == count
    assert {result[2] for _, result in done} == {max(1, joblib.cpu_count() // count)}


def test_an_answer_says_which_worker_it_is_of():
    found = list(answers(double, ["a", "b"], [[i] for i in range(20)]))
    assert {worker.name for worker, _, _ in found} == {"a", "b"}
    assert len({worker.node for worker, _, _ in found}) == 1
    assert all(worker.name == result[1] for worker, _, result in found)


def test_no_worker_starts_without_a_chunk_for_it():
    assert list(run(broken, ["a", "b"], [])) == []
    done = list(run(double, ["a", "b", "c"], [[1]]))
    assert [result[1] for _, result in done] == ["a"]


def test_chunks_are_read_only_as_fast_as_they_are_taken():
    taken = 0

    def chunks():
        nonlocal taken
        for i in range(100):
            taken += 1
            yield [i]

    with closing(run(double, ["a", "b"], chunks())) as results:
        for done, _ in enumerate(results, 1):
            assert taken <= done + 2 * local.IN_FLIGHT


def test_large_chunks_and_results_do_not_block_each_other():
    chunks = [list(range(200_000)) for _ in range(6)]
    assert len(list(run(double, ["a", "b"], chunks))) == 6


def test_a_killed_worker_is_replaced_and_its_chunk_done_again(tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    chunks = [("fine", None)] * 5 + [("once", str(trap))] + [("fine", None)] * 10
    done = list(run(fragile, ["a", "b"], chunks))
    assert sorted(map(str, (chunk for chunk, _ in done))) == sorted(map(str, chunks))


def test_a_chunk_that_kills_two_workers_is_an_error_that_names_it(tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    chunks = [("fine", None)] * 3 + [("always", str(trap))] + [("fine", None)] * 10
    with pytest.raises(InputError, match=r"two workers died .* while they worked on the file .*trap"):
        list(run(fragile, ["a", "b"], chunks, describe=lambda chunk: f"the file {chunk[1]}"))


def test_an_input_error_in_a_worker_is_raised_as_it_is():
    with pytest.raises(InputError, match="^chunk 3 is bad$"):
        list(run(refusing, ["a"], [1, 2, 3, 4]))
    with pytest.raises(InputError, match=r"^there is no gpu\(0\)$"):
        list(run(broken, ["gpu(0)"], [1]))


def test_a_bug_in_a_worker_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match="(?s)in the worker on a:.*KeyError: 'a bug'"):
        list(run(refusing, ["a"], [5]))


def test_the_environment_is_the_workers_alone():
    done = list(run(leisurely, ["a"], [1], environment={"HEADSTART_TEST": "yes"}))
    assert done == [(1, "yes")]
    assert "HEADSTART_TEST" not in os.environ


def test_workers_end_when_the_results_are_no_longer_wanted():
    with closing(run(double, ["a", "b"], ([i] for i in range(1000)))) as results:
        pids = {next(results)[1][3] for _ in range(10)}
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_end_when_the_driver_is_killed():
    program = (
        "from tests.engines.test_local import *\n"
        "if __name__ == '__main__':\n"
        "    list(run(slow, ['a', 'b'], [1, 2, 3, 4]))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.time() + 30
    while len(children := psutil.Process(driver.pid).children(recursive=True)) < 3:
        assert time.time() < deadline
        time.sleep(0.1)
    time.sleep(1)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
