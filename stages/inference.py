"""Compiles a frozen body for inference: a faster graph for the same features.

The graph is rewritten once, whatever the network: batch norms go into the weights before them, zero padding
into the convolution behind it, and oneDNN then fuses convolution, activation and sum.

A feature depends on its image alone, to the last bit: not on the size of the batch, nor on the place in it, nor
on the neighbours. oneDNN computes every image of a convolution's batch by itself, so convolutions give
that away for free. A dense layer is one matrix product whose blocking changes with its number of rows;
it is computed as a convolution too (see ``_Rewriting._dense``). One OpenMP thread is assumed throughout.
"""

import ast
import json
import math
import warnings

import numpy as np

from stages import preprocess, quantize
from stages.errors import InputError
from stages.mx import mx

# Part of the fingerprint of every stored feature: raise it when a change here changes their bytes.
VERSION = 1

# To be set before MXNet is loaded, in every process that computes features. The last three are for GPUs: algorithms
# that give the same bits every time, chosen without trying out which is fastest, and no rounding of float32 to TF32.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MXNET_ENFORCE_DETERMINISM": "1",
    "MXNET_CUDNN_AUTOTUNE_DEFAULT": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
}

# What a device can compute in. On both the features leave as float32.
PRECISIONS = {"cpu": ("float32", "bfloat16", "int8"), "gpu": ("float32", "float16")}

# MXNet's own name for bfloat16, which numpy does not have.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])

# Rows of a dense layer that are computed together.
ROWS = 16

# Images at a time whose values are measured for int8: VGG16 takes 3.4 GB with 4, 5 GB with 16.
CALIBRATION_BATCH = 4

# Operators that hand their input on unchanged when nothing is trained.
NO_OPS = ("Dropout", "_copy", "BlockGrad")


def compile(body, shape, precision="float32", context=None, calibration=None):
    """Compiles ``body`` for batches of exactly ``shape``.

    body: ``networks.Body`` with float32 parameters.
    shape: (n, 3, size, size).
    precision: one of ``PRECISIONS`` of the device.
    context: the device, by default the CPU.
    calibration: for int8, what :func:`calibrate` returned for the same body.

    Returns a function from a float32 NDArray of ``shape`` on ``context`` to a float32 NDArray (n, dim).
    Raises InputError if the device cannot compute in ``precision``.
    """
    context = context or mx.cpu()
    known = PRECISIONS[context.device_type]
    if precision not in known:
        raise InputError(f"precision {precision} does not run on a {context.device_type}, only {' and '.join(known)}")
    dtype = {"bfloat16": BFLOAT16, "float16": np.dtype(np.float16)}.get(precision)
    symbol, params = rewrite(*trace(body), rows=shape[0], dtype=dtype)
    if precision == "int8":
        if calibration is None:
            raise ValueError("int8 needs the calibration of the body")
        symbol, params = quantize.quantize(quantize.fuse(symbol), params, calibration)
    elif context.device_type == "cpu":
        symbol = symbol.get_backend_symbol("MKLDNN")
    return _block(symbol, params, context)


def calibrate(body, backbone):
    """Measures the ranges of the values inside ``body`` that int8 needs: the ``calibration`` for :func:`compile`.

    Depends on the body's parameters and the ``backbone``'s preprocessing, on nothing else. Returns plain data for JSON.
    """
    pixels = preprocess.normalise(quantize.images(backbone.size), backbone)
    shape = (CALIBRATION_BATCH, *pixels.shape[1:])
    symbol, params = rewrite(*trace(body), rows=CALIBRATION_BATCH)
    symbol = quantize.fuse(symbol)
    floats = quantize.float_layers(symbol, params, shape)
    names = quantize.ranged_outputs(symbol, params, floats)
    values = [symbol.get_internals()[name] for name in names]
    # Computed values, because MXNet does not return a variable such as "data" itself.
    extremes = [op(value, axis=None) for value in values for op in (mx.sym.min, mx.sym.max)]
    run = _block(mx.sym.Group(extremes), params, mx.cpu())
    batches = pixels.reshape(-1, *shape)
    found = np.array([[x.asscalar() for x in run(mx.nd.array(batch))] for batch in batches], dtype=float)
    ranges = np.stack([found[:, ::2].min(0), found[:, 1::2].max(0)], axis=1)
    return {"float32": floats, "ranges": dict(zip(names, ranges.tolist()))}


def trace(body):
    """The body as a graph with the input "data", and its parameters as numpy arrays by name."""
    return body(mx.sym.var("data")), {name: p.data().asnumpy() for name, p in body.collect_params().items()}


def _block(symbol, params, context):
    with warnings.catch_warnings():
        # Gluon warns that it cannot know the type of "data".
        warnings.simplefilter("ignore")
        block = mx.gluon.SymbolBlock(symbol, mx.sym.var("data"))
    used = block.collect_params()
    used.load_dict({name: params[name] for name in used}, ctx=context, cast_dtype=True, dtype_source="saved")
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def rewrite(symbol, params, rows, dtype=None):
    """Simplifies the inference graph ``symbol`` of one output; mathematically it stays the same function.

    params: numpy arrays by name, among them every variable of ``symbol`` but "data".
    rows: the number of images in a batch.
    dtype: the type to compute in, if not float32; input and output are float32 all the same.

    Returns (symbol, NDArrays by name). New names depend only on the graph, not on how many networks were built before.
    """
    rewriting = _Rewriting(symbol, params, rows, dtype)
    return rewriting.output, rewriting.params


class _Node:
    """An operator of the graph: ``inputs`` as pairs (node's index, output), ``users`` the nodes that read it."""

    def __init__(self, op, name, attrs, inputs):
        self.op, self.name, self.attrs, self.inputs = op, name, attrs, inputs
        self.users = []

    def attr(self, key, default):
        return ast.literal_eval(self.attrs.get(key, str(default)))


def _nodes(symbol):
    """The nodes of ``symbol`` in topological order; the last one is the output."""
    graph = json.loads(symbol.tojson())
    nodes = [
        _Node(n["op"], n["name"], n.get("attrs", {}), [(source, output) for source, output, _ in n["inputs"]])
        for n in graph["nodes"]
    ]
    for node in nodes:
        for source, _ in node.inputs:
            nodes[source].users.append(node)
    return nodes[: graph["heads"][0][0] + 1]


class _Rewriting:
    """One walk over the graph in topological order that composes the new graph next to it.

    values: for every node so far, the new symbol that stands for it.
    pads: for a padding that was left out, ((top, left), (bottom, right)) for the convolutions that read it.
    """

    def __init__(self, symbol, params, rows, dtype):
        self.old_params, self.params, self.rows, self.dtype = params, {}, rows, dtype
        self.nodes, self.values, self.pads, self.count = _nodes(symbol), [], {}, {}
        rules = {"null": self._variable, "Pad": self._pad, "BatchNorm": self._batch_norm,
                 "Convolution": self._convolution, "FullyConnected": self._dense,
                 **dict.fromkeys(NO_OPS, self._input)}  # fmt: skip
        for node in self.nodes:
            self.values.append(rules.get(node.op, self._copy)(node))
        self.output = self._cast(self.values[-1], np.float32)

    def _input(self, node, index=0):
        source, output = node.inputs[index]
        return self.values[source][output]

    def _name(self, op):
        number = self.count[op] = self.count.get(op, -1) + 1
        return f"{op.lower().strip('_')}{number}"

    def _cast(self, x, dtype):
        return x if self.dtype is None else mx.sym.amp_cast(x, dtype=dtype)

    def _variable(self, node):
        # Parameters are not passed on: the operators that read them make their own.
        return self._cast(mx.sym.var("data"), self.dtype) if node.name == "data" else None

    def _copy(self, node, **attrs):
        operator = getattr(mx.sym, node.op, None) or getattr(mx.sym._internal, node.op)
        inputs = [self._input(node, i) for i in range(len(node.inputs))]
        return operator(*inputs, name=self._name(node.op), **{**node.attrs, **attrs})

    def _parameter(self, name, value, dtype=None):
        self.params[name] = mx.nd.array(value, dtype=np.float32)
        if dtype is not None:
            self.params[name] = mx.nd.amp_cast(self.params[name], dtype=dtype)
        return mx.sym.var(name)

    def _pad(self, node):
        zeros = node.attrs["mode"] == "constant" and node.attr("constant_value", 0.0) == 0
        width = node.attr("pad_width", ())
        if not zeros or any(width[:4]) or any(user.op != "Convolution" for user in node.users):
            return self._copy(node)
        self.pads[len(self.values)] = width[4::2], width[5::2]
        return self._input(node)

    def _batch_norm(self, node):
        if self._folded_into(self.nodes[node.inputs[0][0]]) is node:
            return self._input(node)
        name = self._name("BatchNorm")
        inputs = [self._input(node)]
        for (source, _), role in zip(node.inputs[1:], ("gamma", "beta", "moving_mean", "moving_var")):
            inputs.append(self._parameter(f"{name}_{role}", self.old_params[self.nodes[source].name]))
        return mx.sym.BatchNorm(*inputs, name=name, **node.attrs)

    def _folded_into(self, layer):
        # The batch norm that scales the output of ``layer``, a convolution or dense layer, and nothing else reads.
        if layer.op in ("Convolution", "FullyConnected") and [user.op for user in layer.users] == ["BatchNorm"]:
            return layer.users[0]
        return None

    def _weights(self, layer):
        """Weights and bias of a convolution or dense layer in float64, with the batch norm behind it."""
        arrays = [self.old_params[self.nodes[source].name].astype(np.float64) for source, _ in layer.inputs[1:]]
        weight, bias = arrays if len(arrays) == 2 else (arrays[0], np.zeros(len(arrays[0])))
        norm = self._folded_into(layer)
        if norm is None:
            return weight, bias
        gamma, beta, mean, var = (
            self.old_params[self.nodes[source].name].astype(np.float64) for source, _ in norm.inputs[1:]
        )
        scale = 1 / np.sqrt(var + norm.attr("eps", 1e-3))
        if not norm.attr("fix_gamma", True):
            scale = scale * gamma
        return weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1)), beta + (bias - mean) * scale

    def _convolution(self, node):
        weight, bias = self._weights(node)
        axes = weight.ndim - 2
        pad = node.attr("pad", (0,) * axes)
        begin, end = self.pads.get(node.inputs[0][0], ((0,) * axes,) * 2)
        begin, end = [b + p for b, p in zip(begin, pad)], [e + p for e, p in zip(end, pad)]
        weight = _even_padding(weight, begin, end, node.attr("dilate", (1,) * axes))
        name = self._name("Convolution")
        attrs = {**node.attrs, "kernel": weight.shape[2:], "pad": tuple(map(max, begin, end)), "no_bias": False}
        return self._layer(self._input(node), weight, bias, name, **attrs)

    def _layer(self, x, weight, bias, name, **attrs):
        weight = self._parameter(f"{name}_weight", weight, self.dtype)
        bias = self._parameter(f"{name}_bias", bias, self.dtype)
        return mx.sym.Convolution(x, weight, bias, name=name, **attrs)

    def _dense(self, node):
        """A dense layer as a 1×1 convolution over "images" of ``ROWS`` pixels: a row becomes a pixel.

        Twice as fast as FullyConnected on 16 rows (25088 → 4096, one thread), and no row's result depends on
        how many others there are.
        """
        if not node.attr("flatten", True):
            raise ValueError("a dense layer without flatten cannot be compiled")
        weight, bias = self._weights(node)
        units, width = weight.shape
        filled = math.ceil(self.rows / ROWS) * ROWS
        name = self._name("FullyConnected")
        # Moved about in float32: MXNet's transpose of bfloat16 writes beyond its memory.
        x = mx.sym.Flatten(self._cast(self._input(node), np.float32), name=f"{name}_rows")
        if filled != self.rows:
            # Copies of the rows fill the last block; their results are cut off again.
            x = mx.sym.tile(x, reps=(math.ceil(filled / self.rows), 1), name=f"{name}_copies")
            x = mx.sym.slice_axis(x, axis=0, begin=0, end=filled, name=f"{name}_filled")
        x = mx.sym.reshape(x, shape=(-1, ROWS, width), name=f"{name}_blocks")
        x = mx.sym.transpose(x, axes=(0, 2, 1), name=f"{name}_pixels")
        x = self._cast(mx.sym.reshape(x, shape=(-1, width, ROWS, 1), name=f"{name}_images"), self.dtype)
        x = self._layer(x, weight.reshape(units, width, 1, 1), bias, name, kernel=(1, 1), num_filter=units)
        x = mx.sym.transpose(self._cast(x, np.float32), axes=(0, 2, 1, 3), name=f"{name}_unpixels")
        x = mx.sym.reshape(x, shape=(-1, units), name=f"{name}_unblocks")
        return mx.sym.slice_axis(x, axis=0, begin=0, end=self.rows, name=f"{name}_output")


def _even_padding(weight, begin, end, dilate):
    """Zero rows and columns that let a kernel with unequal padding at begin and end do with the larger at both.

    A longer padding at the begin moves every window back by the difference; as many zeros before the kernel
    move its weights forward again. The number of windows stays the same, at any stride.
    """
    difference = np.subtract(end, begin)
    if any(difference % dilate):
        raise ValueError(f"padding {tuple(begin)}, {tuple(end)} does not fit a kernel dilated by {dilate}")
    zeros = difference // dilate
    return np.pad(weight, ((0, 0), (0, 0), *((max(z, 0), max(-z, 0)) for z in zeros)))
