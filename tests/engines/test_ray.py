"""Workers on a real Ray cluster of several nodes: every chunk is done once, whatever happens to workers and nodes."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from bench.pictures import save_folder
from stages.backend import cpu
from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset.sources.files.places import Place
from stages.engines import cluster, crew
from stages.engines.contract import Work
from stages.engines.ray import engine
from stages.engines.tasks import Tasks
from stages.features import compute, extract, identity
from tests.conftest import BACKBONE, ROOT
from tests.engines import work
from tests.engines.work import broken, double, fragile, leisurely, refusing, unhurried

pytestmark = pytest.mark.xdist_group("cluster")

# The workers get to see no code but stages/: what they are to do here must travel with the call.
ray.cloudpickle.register_pickle_by_value(work)

RUNTIME = params.load(ROOT / "params.yaml").runtime


def free_port():
    """One below those that Ray takes for its workers."""
    for port in range(9100, 9900):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("", port))
            return port


@pytest.fixture(scope="module")
def nodes():
    """A cluster whose head has no cores, as a driver's machine may, and two nodes of one core.

    ``outside`` is the address for a driver that is none of its nodes.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Else a server that the Ray Client's proxy forks while it serves another may hang in gRPC before it has begun.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    # Nodes that die are noticed within 6 seconds instead of 15; sooner, a busy machine's are taken for dead.
    quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 6}
    head = {
        "num_cpus": 0,
        "include_dashboard": False,
        "ray_client_server_port": (port := free_port()),
        "_system_config": quick,
    }
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.outside = f"ray://127.0.0.1:{port}"
    nodes.add_node(num_cpus=1)
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def answers(address, setup, chunks, workers="auto", count=None, **options):
    count = len(chunks) if count is None else count
    return engine("cpu", workers, address)(Work(setup, chunks, count, **options))


def run(nodes, setup, chunks, address=None, **options):
    """(chunk, result) of every chunk, by workers on ``nodes``."""
    return ((chunk, result) for _, chunk, result in answers(address or nodes.address, setup, chunks, **options))


def test_every_chunk_is_done_once_by_workers_on_every_node(nodes):
    chunks = [[i, i + 1] for i in range(0, 80, 2)]
    done = list(answers(nodes.address, double, chunks))
    assert sorted(chunk for _, chunk, _ in done) == chunks
    assert all(result[:3] == ([2 * x for x in chunk], "cpu(0)", 1) for _, chunk, result in done)
    used = {worker for worker, _, _ in done}
    assert len(used) == len({worker.node for worker in used}) == 2


def test_workers_see_no_file_of_the_driver(nodes):
    [(_, result)] = run(nodes, double, [[1]])
    assert not result[4].startswith(str(ROOT))


def test_without_a_chunk_no_cluster_is_needed():
    assert list(answers("127.0.0.1:1", broken, [])) == []


def test_no_more_workers_than_wanted(nodes):
    done = list(answers(nodes.address, leisurely, range(6), workers=1))
    assert len(done) == 6
    assert len({worker for worker, _, _ in done}) == 1


def test_the_environment_is_the_workers_alone(nodes):
    assert list(run(nodes, leisurely, [1], environment={"HEADSTART_TEST": "yes"})) == [(1, "yes")]
    assert "HEADSTART_TEST" not in os.environ


def test_chunks_are_read_only_as_fast_as_they_are_taken(nodes):
    taken = 0

    def chunks():
        nonlocal taken
        for i in range(60):
            taken += 1
            yield [i] * 100_000

    with closing(answers(nodes.address, double, chunks(), count=60)) as results:
        for done, _ in enumerate(results, 1):
            # What two workers hold, one chunk read ahead, and results that came at the same time.
            assert taken <= done + 2 * crew.IN_FLIGHT + 1


def test_a_killed_worker_is_replaced_and_its_chunks_done_again(nodes, tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    chunks = [("fine", None)] * 5 + [("once", str(trap))] + [("fine", None)] * 10
    done = list(run(nodes, fragile, chunks))
    assert sorted(map(str, (chunk for chunk, _ in done))) == sorted(map(str, chunks))


def test_a_chunk_that_kills_two_workers_is_an_error_that_names_it(nodes, tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    chunks = [("fine", None)] * 3 + [("always", str(trap))] + [("fine", None)] * 10
    with pytest.raises(InputError, match=r"two workers died .* while they worked on the file .*trap"):
        list(run(nodes, fragile, chunks, describe=lambda chunk: f"the file {chunk[1]}"))


def test_an_input_error_in_a_worker_is_raised_as_it_is(nodes):
    with pytest.raises(InputError, match="^chunk 3 is bad$"):
        list(run(nodes, refusing, [1, 2, 3, 4]))
    with pytest.raises(InputError, match=r"^there is no cpu\(0\)$"):
        list(run(nodes, broken, [1]))


def test_a_bug_in_a_worker_comes_with_its_traceback(nodes):
    with pytest.raises(RuntimeError, match="(?s)in a worker on Ray:.*in start.*KeyError: 'a bug'"):
        list(run(nodes, refusing, [5]))


# --- Nodes and drivers that come and go ------------------------------------------------------------------------------


@pytest.fixture
def photos(workspace, weights_file, tmp_path, monkeypatch):
    """Paths of photos, in a folder whose ``data/weights`` holds a small backbone; without a feature cache."""
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    workspace(BACKBONE, weights_file)
    return list(map(str, save_folder(tmp_path / "photos", ["a", "b"], per_class=30)))


def featurize(paths, setup=extract.set_up, precision="float32", **runtime):
    """What :func:`compute.compute` returns for the images at ``paths``."""
    chosen = params.load(ROOT / "params.yaml").featurize.model_copy(update={"precision": precision})
    recipe = identity.current("auto", chosen, "off")
    runtime = RUNTIME.model_copy(update={"devices": "cpu", "batch_size": 2, **runtime})
    places = [Place(path) for path in paths]
    return compute.compute(places, recipe, runtime, lambda *shape: np.full(shape, np.nan, np.float32), setup=setup)


def test_features_are_the_same_bytes_though_nodes_die_and_another_comes(nodes, photos, monkeypatch):
    expected = featurize(photos, workers=1)
    assert len(expected.workers) == 1
    came, lost, take = [], [], compute._take
    first, second = nodes.worker_nodes

    def watch(chunk, *rest):
        take(chunk, *rest)
        came.extend(chunk.digests)
        if len(came) == 8:
            nodes.remove_node(first, allow_graceful=False)
            nodes.add_node(num_cpus=1)
        elif len(came) == 24:
            # From here on the new node is alone.
            nodes.remove_node(second, allow_graceful=False)

    take_back = Tasks.take_back
    monkeypatch.setattr(Tasks, "take_back", lambda tasks, held: (lost.extend(held), take_back(tasks, held)))
    monkeypatch.setattr(compute, "_take", watch)
    found = featurize(photos, unhurried, engine="ray", ray_address=nodes.address, batch_size=4)
    nodes.add_node(num_cpus=1)
    assert found.features.tobytes() == expected.features.tobytes()
    assert len(came) == len(set(came)) == found.forward_passes == 60
    assert lost
    assert 2 <= len({worker.node for worker in found.workers}) == len(found.workers) <= 3


@pytest.fixture
def limited(nodes):
    """limited(instruction_set): adds a node whose CPU has no more than that."""
    with ExitStack() as stack:

        def add(instruction_set):
            node = nodes.add_node(num_cpus=1, env_vars={"DNNL_MAX_CPU_ISA": instruction_set})
            stack.callback(nodes.remove_node, node)
            return node

        yield add


@pytest.mark.skipif(not cpu.adds_in_32_bits({}), reason="this CPU lacks VNNI, so int8 is refused on every node")
def test_int8_is_the_same_bytes_on_nodes_of_two_kinds_that_can_both_compute_it(nodes, photos, limited):
    expected = featurize(photos, precision="int8", workers=1)
    node = limited("AVX2_VNNI" if "AVX2_VNNI" in cpu.instruction_sets({}) else "AVX512_CORE_VNNI")
    found = featurize(photos, unhurried, precision="int8", engine="ray", ray_address=nodes.address)
    assert node.node_id in {worker.node for worker in found.workers} and len(found.workers) > 1
    assert found.features.tobytes() == expected.features.tobytes()


def test_int8_is_refused_where_one_node_of_two_cannot_compute_it(nodes, photos, limited):
    limited("AVX2")
    with pytest.raises(InputError, match="int8 needs VNNI, and "):
        featurize(photos, unhurried, precision="int8", engine="ray", ray_address=nodes.address)


def test_a_node_that_joins_is_used(nodes):
    with closing(answers(nodes.address, leisurely, range(10**6))) as results:
        next(results)
        joined = nodes.add_node(num_cpus=1)
        deadline = time.monotonic() + 60
        while next(results)[0].node != joined.node_id:
            assert time.monotonic() < deadline
    nodes.remove_node(joined)


def done_though_a_node_dies(nodes, **options):
    """The chunks of range(16) as they are done, while a node is killed and another added."""
    with closing(run(nodes, leisurely, range(16), **options)) as results:
        done = [next(results)[0] for _ in range(4)]
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        nodes.add_node(num_cpus=1)
        return done + [chunk for chunk, _ in results]


def test_a_lost_node_is_not_held_against_the_chunks_that_were_there(nodes, monkeypatch):
    monkeypatch.setattr(Tasks, "suspect", lambda *_: pytest.fail("a chunk is suspected"))
    assert sorted(done_though_a_node_dies(nodes)) == list(range(16))


def test_workers_end_when_the_driver_is_killed(nodes):
    program = (
        "from tests.engines.test_ray import *\n"
        "for _ in answers(sys.argv[1], leisurely, range(10**6)):\n"
        "    print('working', flush=True)\n"
    )
    command = [sys.executable, "-c", program, nodes.address]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as driver:
        assert driver.stdout.readline()
        driver.kill()
    assert len(list(run(nodes, leisurely, [1, 2]))) == 2


# --- Through the Ray Client ------------------------------------------------------------------------------------------


def test_features_are_the_same_bytes_for_a_driver_outside_though_workers_lose_sight_of_the_images(
    nodes, photos, tmp_path, monkeypatch
):
    expected = featurize(photos, workers=1)
    assert expected.shipped == 0
    gate, take = tmp_path / "gate", compute._take
    gate.symlink_to(tmp_path)

    def close(*arguments):
        take(*arguments)
        # From here on it leads to the folder that a process is in: the driver's has the images, the workers' has not.
        (tmp_path / "closed").symlink_to("/proc/self/cwd")
        (tmp_path / "closed").rename(gate)

    monkeypatch.setattr(compute, "_take", close)
    paths = [path.replace(str(tmp_path), str(gate)) for path in photos]
    found = featurize(paths, engine="ray", ray_address=nodes.outside)
    assert found.features.tobytes() == expected.features.tobytes()
    assert found.forward_passes == 60
    assert 0 < found.shipped < 60


def test_a_killed_worker_is_replaced_for_a_driver_outside(nodes, tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    chunks = [("fine", None)] * 5 + [("once", str(trap))] + [("fine", None)] * 10
    done = list(run(nodes, fragile, chunks, address=nodes.outside))
    assert sorted(map(str, (chunk for chunk, _ in done))) == sorted(map(str, chunks))


def test_a_lost_node_costs_a_driver_outside_nothing_but_time(nodes):
    assert sorted(done_though_a_node_dies(nodes, address=nodes.outside)) == list(range(16))


def test_an_error_in_a_worker_reaches_a_driver_outside_as_it_is(nodes):
    with pytest.raises(InputError, match="^chunk 3 is bad$"):
        list(run(nodes, refusing, [1, 2, 3, 4], address=nodes.outside))
    with pytest.raises(RuntimeError, match="(?s)in a worker on Ray:.*KeyError: 'a bug'"):
        list(run(nodes, refusing, [5], address=nodes.outside))


def test_a_server_that_fails_to_serve_a_driver_outside_is_asked_again(nodes, monkeypatch):
    # One refusal of the test's: on a busy machine the server adds some of its own.
    join, refusals = ray.init, [ConnectionAbortedError("Initialization failure from server:\n\nno channel")]

    def init(**options):
        if refusals:
            raise refusals.pop()
        return join(**options)

    monkeypatch.setattr(ray, "init", init)
    assert len(list(run(nodes, double, [[1]], address=nodes.outside))) == 1
    refusals.extend([ConnectionAbortedError("Initialization failure from server:\n\nno channel")] * cluster.KNOCKS)
    with pytest.raises(InputError, match=r"^cannot join .*ray://.*: Initialization failure from server: no channel$"):
        list(run(nodes, double, [[1]], address=nodes.outside))


# --- Without a cluster -----------------------------------------------------------------------------------------------


def test_the_local_engine_never_imports_ray(photos):
    program = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        "import numpy\n"
        "from stages.features import compute, identity\n"
        "from stages import featurize\n"
        "from stages.common.settings import params\n"
        "from stages.dataset.sources.files.places import Place\n"
        "given = params.load(sys.argv[1])\n"
        "recipe = identity.current('auto', given.featurize, 'off')\n"
        "places = [Place(path) for path in sys.argv[2:]]\n"
        "print(compute.compute(places, recipe, given.runtime, lambda *s: numpy.zeros(s)).forward_passes)\n"
    )
    command = [sys.executable, "-c", program, str(ROOT / "params.yaml"), *photos[:2]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_CACHE": "off"}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "2\n"
