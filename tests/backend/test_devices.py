"""Which devices the work is spread over."""

import joblib
import pytest

from stages.backend import devices
from stages.backend.mx import mx
from stages.common.errors import InputError


@pytest.fixture
def machine(monkeypatch):
    """machine(gpus, cores): what is found from then on."""

    def make(gpus, cores=4):
        monkeypatch.setattr(devices, "_driver", lambda: True)
        monkeypatch.setattr(mx.context, "num_gpus", lambda: gpus)
        monkeypatch.setattr(devices, "compute_capability", lambda number: (7, 0))
        monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores=False: cores * (2 - only_physical_cores))

    return make


@pytest.mark.parametrize(
    ("gpus", "wanted", "workers", "found"),
    [
        # One worker per physical core.
        (0, "auto", "auto", ["cpu(0)", "cpu(1)", "cpu(2)", "cpu(3)"]),
        (0, "cpu", "auto", ["cpu(0)", "cpu(1)", "cpu(2)", "cpu(3)"]),
        (0, "auto", 1, ["cpu(0)"]),
        (0, "cpu", 6, ["cpu(0)", "cpu(1)", "cpu(2)", "cpu(3)", "cpu(4)", "cpu(5)"]),
        (3, "cpu", 2, ["cpu(0)", "cpu(1)"]),
        (3, "cpu", "auto", ["cpu(0)", "cpu(1)", "cpu(2)", "cpu(3)"]),
        # One worker per GPU.
        (3, "auto", "auto", ["gpu(0)", "gpu(1)", "gpu(2)"]),
        (3, "gpu", "auto", ["gpu(0)", "gpu(1)", "gpu(2)"]),
        (3, [2], "auto", ["gpu(2)"]),
        (3, [2, 0], "auto", ["gpu(2)", "gpu(0)"]),
        # In turn.
        (3, "auto", 2, ["gpu(0)", "gpu(1)"]),
        (3, "gpu", 4, ["gpu(0)", "gpu(1)", "gpu(2)", "gpu(0)"]),
        (3, [2, 0], 5, ["gpu(2)", "gpu(0)", "gpu(2)", "gpu(0)", "gpu(2)"]),
        (3, [2, 0], 1, ["gpu(2)"]),
    ],
)
def test_workers_and_their_devices(machine, gpus, wanted, workers, found):
    machine(gpus)
    assert devices.resolve(wanted, workers) == found


def test_a_machine_with_one_core_has_one_worker(machine):
    machine(0, cores=1)
    assert devices.resolve("auto", "auto") == ["cpu(0)"]


@pytest.mark.parametrize(
    ("gpus", "wanted", "message"),
    [
        (0, "gpu", "runtime.devices asks for a GPU and MXNet sees 0: set it to auto or cpu"),
        (0, [0], "runtime.devices asks for GPU 0 and MXNet sees 0: set it to auto or cpu"),
        (3, [3], "runtime.devices asks for GPU 3 and MXNet sees 3: set it to auto or cpu"),
        (3, [1, 7, 0], "runtime.devices asks for GPU 7 and MXNet sees 3: set it to auto or cpu"),
    ],
)
@pytest.mark.parametrize("workers", ["auto", 1, 5])
def test_a_gpu_that_is_not_there_is_one_sentence(machine, gpus, wanted, message, workers):
    machine(gpus)
    with pytest.raises(InputError) as error:
        devices.resolve(wanted, workers)
    assert str(error.value) == message


def test_what_is_really_here_can_be_used():
    for name in devices.resolve("auto", "auto"):
        assert mx.nd.ones((2,), ctx=devices.context(name)).sum().asscalar() == 2


@pytest.mark.parametrize(
    ("name", "context"),
    [("cpu(0)", mx.cpu(0)), ("cpu(12)", mx.cpu(12)), ("gpu(0)", mx.gpu(0)), ("gpu(10)", mx.gpu(10))],
)
def test_a_name_stands_for_a_context(name, context):
    assert devices.context(name) == context


@pytest.mark.parametrize("capability", [(9, 0), (10, 0), (3, 7)])
def test_a_gpu_that_mxnet_has_no_code_for_is_one_sentence(machine, monkeypatch, capability):
    machine(gpus=2)
    monkeypatch.setattr(devices, "compute_capability", lambda number: capability if number == 1 else (8, 9))
    assert devices.resolve([0], "auto") == ["gpu(0)"]
    with pytest.raises(InputError, match=rf"GPU 1 has compute capability {capability[0]}\.{capability[1]} and MXNet"):
        devices.resolve("auto", "auto")


def test_a_gpu_out_of_memory_names_the_setting():
    with (
        pytest.raises(InputError, match=r"^gpu\(0\) is out of memory: lower runtime.batch_size$"),
        devices.memory_of("gpu(0)", "runtime.batch_size"),
    ):
        raise mx.base.MXNetError("Check failed: err == cudaSuccess: CUDA: out of memory")
    with pytest.raises(mx.base.MXNetError), devices.memory_of("gpu(0)", "runtime.batch_size"):
        raise mx.base.MXNetError("something else")
