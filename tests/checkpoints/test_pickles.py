"""What a pickle can ask for, and that it gets no more than that."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from tests.checkpoints import samples
from tests.checkpoints.samples import CONTAINERS, Storage, Tensor, read, refusal, same, small, tensor


@CONTAINERS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(tmp_path, container, protocol):
    value = OrderedDict((name, tensor(array)) for name, array in small().items())
    value.version = 1
    same(read(tmp_path, container(value, protocol)), small())


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@CONTAINERS
def test_no_code_in_a_file_runs(tmp_path, container):
    touched = tmp_path / "touched"
    for call in (Call(os.mkdir, str(touched)), Call(exec, f"import os; os.mkdir({str(touched)!r})")):
        pickle.loads(pickle.dumps(call, 2))
        assert touched.exists(), "this pickle is meant to be harmful"
        touched.rmdir()
        message = refusal(tmp_path, container({"x": call}))
        assert call.call[0].__name__ in message and "refused" in message
        assert not touched.exists()


@CONTAINERS
@pytest.mark.parametrize("name", ["torch load", "torch.hub load", "torch.storage _load_from_bytes", "builtins getattr"])
def test_no_other_name_is_resolved(tmp_path, container, name, monkeypatch):
    body = f"\x80\x02c{name.replace(' ', chr(10))}\n.".encode("latin-1")
    monkeypatch.setattr(samples, "pickled", lambda value, protocol: (body, {}))
    assert name.replace(" ", ".") in refusal(tmp_path, container({}))


@CONTAINERS
def test_a_torchscript_program_is_told_from_weights(tmp_path, container, monkeypatch):
    body = b"\x80\x02c__torch__.multimodal.model\nMultimodal\n."
    monkeypatch.setattr(samples, "pickled", lambda value, protocol: (body, {}))
    assert "is a TorchScript program, and no file's code is ever run: give the weights" in refusal(
        tmp_path, container({})
    )


@CONTAINERS
@pytest.mark.parametrize(
    "offset, shape, strides",
    [
        (0, (25,), (1,)),
        (24, (1,), (1,)),
        (1, (4, 6), (6, 1)),
        (0, (2, 2), (24, 1)),
        (0, (2,), (2**62,)),
        (-1, (2,), (1,)),
        (23, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2, 2), (1,)),
        (0, (1,) * 65, (1,) * 65),
        (0, (1.0,), (1,)),
        (0, "12", "11"),
    ],
)
def test_a_tensor_reaching_out_of_its_storage_is_refused(tmp_path, container, offset, shape, strides):
    storage = Storage(np.arange(24, dtype=np.float32))
    others = tensor(np.zeros(100, np.float32))
    refusal(tmp_path, container({"x": Tensor(storage, offset, shape, strides), "y": others}))
