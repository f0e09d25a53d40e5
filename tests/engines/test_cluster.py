"""Joining a Ray cluster, and what a worker there is; without a cluster."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from stages.common.errors import InputError
from stages.engines import cluster
from stages.engines.contract import Work
from stages.engines.ray import engine
from tests.conftest import ROOT
from tests.engines.work import double


def nodes(*resources, dead=()):
    """Ray, of a cluster whose nodes have these resources; those in ``dead`` are no longer there."""
    found = [{"Alive": True, "Resources": each} for each in resources]
    return SimpleNamespace(nodes=lambda: found + [{"Alive": False, "Resources": each} for each in dead])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_cluster_that_does_not_answer_is_an_error_at_once(address):
    begun = time.monotonic()
    with pytest.raises(InputError, match=f"^no Ray cluster answers at {address} .*ray start --head.*") as error:
        list(engine("cpu", "auto", address)(Work(double, [1], 1)))
    assert "\n" not in str(error.value)
    assert time.monotonic() - begun < cluster.ANSWER + 1


def test_ray_that_is_not_installed_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="Ray is not installed .*pip install -r requirements-ray.txt"):
        list(engine("cpu", "auto", "local")(Work(double, [1], 1)))


def test_the_whole_of_stages_travels_and_the_environment_with_it(monkeypatch):
    shipped = {}

    def init(address, runtime_env, **_):
        folder = Path(runtime_env["working_dir"])
        shipped.update({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        assert (address, runtime_env["env_vars"]) == ("local", {"OMP_NUM_THREADS": "1"})

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(ray, "init", init)
    assert cluster.join("local", {"OMP_NUM_THREADS": "1"}) is ray
    here = [path for path in (ROOT / "stages").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert shipped == {path.relative_to(ROOT): path.read_bytes() for path in here}


CPU = ("cpu(0)", {"CPU": 1})


@pytest.mark.parametrize("kind", ["cpu", "auto"])
def test_a_worker_owns_a_core_where_there_is_no_gpu(kind):
    assert cluster.share(nodes({"CPU": 8}, dead=[{"CPU": 8, "GPU": 1}]), kind) == CPU


def test_a_worker_owns_a_gpu_and_its_share_of_the_cores_of_the_scarcest_node():
    ray = nodes({"CPU": 8, "GPU": 2}, {"CPU": 6, "GPU": 1}, {"CPU": 64}, dead=[{"CPU": 1, "GPU": 1}])
    assert cluster.share(ray, "auto") == cluster.share(ray, "gpu") == ("gpu(0)", {"CPU": 4, "GPU": 1})
    assert cluster.share(ray, "cpu") == CPU


def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match="^runtime.devices asks for a GPU and the Ray cluster has none: "):
        cluster.share(nodes({"CPU": 8}), "gpu")


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("it failed\n  at line 3\n"), "it failed"),
        (ValueError("\nit failed because:\n\n  trace\n  no channel\n"), "it failed because: no channel"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_said_in_one_line(error, said):
    assert cluster.line(error) == said
