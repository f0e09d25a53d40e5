"""Weights files made here, those of PyTorch without PyTorch; and how the reader takes them."""

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy

from stages.backend.mx import mx
from stages.checkpoints import read as reader
from stages.checkpoints.pickles import STORAGE_TYPES
from stages.common.errors import InputError


class Storage:
    """The numbers of a tensor, and what the file says about them (``count`` may lie)."""

    def __init__(self, array, kind="FloatStorage", count=None):
        self.raw, self.kind = array.tobytes(), kind
        self.count = array.size if count is None else count


class Tensor:
    def __init__(self, storage, offset, shape, strides, rebuild="_rebuild_tensor_v2"):
        self.arguments = (storage, offset, shape, strides)
        self.rebuild = rebuild

    def __reduce__(self):
        flags = () if self.rebuild == "_rebuild_tensor" else (False, OrderedDict())
        return getattr(sys.modules["torch._utils"], self.rebuild), self.arguments + flags


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        # Older files: the class, and attributes set afterwards.
        return sys.modules["torch.nn.parameter"].Parameter, (self.tensor,), (True, False, OrderedDict())


def tensor(array, kind="FloatStorage"):
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return Tensor(Storage(array, kind), 0, array.shape, strides)


def torch():
    """The modules and names that PyTorch's pickles mention, for Python's pickler to find."""
    names = {
        "torch": STORAGE_TYPES,
        "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"),
        "torch.nn": (),
        "torch.nn.parameter": ("Parameter",),
    }
    modules = {module: types.ModuleType(module) for module in names}
    for module, members in names.items():
        for name in members:
            setattr(modules[module], name, type(name, (), {"__module__": module}))
    return modules


def pickled(value, protocol=2):
    """The pickle of ``value``, and its storages by key."""
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            key = next((key for key, storage in storages.items() if storage is thing), str(len(storages)))
            storages[key] = thing
            return ("storage", getattr(sys.modules["torch"], thing.kind), key, "cpu", thing.count)

    buffer = io.BytesIO()
    with mock.patch.dict(sys.modules, torch()):
        Pickler(buffer, protocol).dump(value)
    return buffer.getvalue(), storages


def legacy(value, protocol=2):
    body, storages = pickled(value, protocol)
    head = [pickle.dumps(part, protocol) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    tail = [struct.pack("<q", storage.count) + storage.raw for storage in storages.values()]
    return b"".join([*head, body, pickle.dumps(list(storages), protocol), *tail])


def zipped(value, protocol=2, byteorder="little", compression=zipfile.ZIP_STORED):
    body, storages = pickled(value, protocol)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("weights/data.pkl", body)
        archive.writestr("weights/byteorder", byteorder)
        for key, storage in storages.items():
            archive.writestr(f"weights/data/{key}", storage.raw)
    return buffer.getvalue()


CONTAINERS = pytest.mark.parametrize("container", [legacy, zipped])


def params(tmp_path, arrays):
    path = tmp_path / "saved"
    mx.nd.save(str(path), arrays)
    return path.read_bytes()


def params_by_hand(array, head):
    """One array called "a"; ``head`` stands before the shape."""
    name = struct.pack("<QQ", 1, 1) + b"a"
    return struct.pack("<QQQ", 0x112, 0, 1) + head + struct.pack("<iii", 1, 0, 0) + array.tobytes() + name


def safetensors_by_hand(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# As bfloat16, and what they are.
HALVES_AS_FLOATS = np.array([1.5, -2.0, 0.0078125, np.inf], np.float32)
HALVES = (HALVES_AS_FLOATS.view(np.uint32) >> 16).astype(np.uint16)


def small():
    return {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(4, np.float32)}


def every_kind(tmp_path, arrays=None):
    """By kind, a file of ``arrays`` (small ones)."""
    arrays = arrays or small()
    tensors = OrderedDict((name, tensor(array)) for name, array in arrays.items())
    nd = {name: mx.nd.array(array) for name, array in arrays.items()}
    return {
        "params": params(tmp_path, nd),
        "legacy": legacy(tensors),
        "zip": zipped(tensors),
        "safetensors": safetensors.numpy.save(arrays),
    }


def read(tmp_path, data, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(data)
    return reader.read(path)


def refusal(tmp_path, data):
    """The message with which a file of these bytes is refused: one line that names the file."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert "weights.pth" in message and "\n" not in message
    return message


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
