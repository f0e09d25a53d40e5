"""Simplifies a network's graph for inference; mathematically it stays the same function.

Whatever the network: batch norms go into the weights before them, zero padding into the convolution behind it,
channels are filled up to what oneDNN has fast kernels for, and dense layers become convolutions.
"""

import ast
import json
import math
from collections import defaultdict, deque
from typing import NamedTuple

import numpy as np

from stages.backend.mx import mx

# MXNet's own name for bfloat16, which numpy does not have.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
FLOAT32 = np.dtype(np.float32)

# Rows of a dense layer that are computed together.
ROWS = 16

# Operators that hand their input on unchanged when nothing is trained.
NO_OPS = ("Dropout", "_copy", "BlockGrad")

# Operators that treat every channel by itself, or add channel to channel; zeros among the channels do them no harm.
CHANNELWISE = ("Activation", "clip", "Pooling", "elemwise_add")

# Operators that make of a rotated map the rotated result; of poolings only the global one.
ROTATABLE = ("null", "Activation", "BatchNorm", "Convolution", "Pad", "clip", "elemwise_add", *NO_OPS)


def rewrite(symbol, params, shape, dtype=FLOAT32, rotated=False, multiple=1, channels=None):
    """Simplifies the inference graph ``symbol`` of one output.

    params: numpy arrays by name, among them every variable of ``symbol`` but "data".
    shape: of "data", (n, 3, size, size).
    dtype: the type to compute in; input and output are float32 all the same.
    rotated: whether "data" will come rotated by 180° (see :func:`gains_by_rotation`).
    multiple: of what the number of channels is to be a multiple; convolutions get outputs of no meaning behind theirs.
    channels: with how many channels "data" will come, if there are more of no meaning behind its own.

    Returns (symbol, NDArrays by name). New names depend only on the graph, not on how many networks were built before.
    """
    spare = 0 if channels is None else channels - shape[1]
    rewriting = _Rewriting(_nodes(symbol, shape), params, shape[0], np.dtype(dtype), rotated, multiple, spare)
    return rewriting.output, rewriting.params


def gains_by_rotation(symbol, shape):
    """Whether ``symbol`` pads its maps at the end, as TensorFlow does, and may get its images rotated by 180°.

    A convolution of stride 2 over a map of even side with one more row of padding at the begin than at the end needs
    no extra row in its kernel: equal padding on both sides does it, as the window that would read the last row is
    left out. With more at the end it does, so such networks are turned upside down, images and kernels alike.
    """
    nodes = _nodes(symbol, shape)
    at_end = False
    for node in nodes:
        if node.op == "Pad":
            width = node.attr("pad_width", ())
            at_end |= width[4::2] < width[5::2]
        elif node.op == "Flatten":
            if math.prod(nodes[node.inputs[0][0]].shape[2:]) != 1:
                return False
        elif not (node.op in ROTATABLE or (node.op == "Pooling" and node.attr("global_pool", False))):
            return False
    return at_end


class _Node:
    """An operator of the graph: ``inputs`` as pairs (node's index, output), ``users`` the nodes that read it.

    shape: of its output, or None where it has several.
    """

    def __init__(self, op, name, attrs, inputs, shape):
        self.op, self.name, self.attrs, self.inputs, self.shape = op, name, attrs, inputs, shape
        self.users = []

    def attr(self, key, default):
        # True, 3, (1, 1); what is not written as in Python is a word such as constant.
        value = self.attrs.get(key)
        return default if value is None else ast.literal_eval(value)


def _nodes(symbol, shape):
    """The nodes of ``symbol`` in topological order; the last one is the output."""
    graph = json.loads(symbol.tojson())
    internals = symbol.get_internals()
    # Several nodes may have the same name.
    shapes = defaultdict(deque)
    for output, its in zip(internals.list_outputs(), internals.infer_shape(data=shape)[1]):
        shapes[output].append(its)
    nodes = []
    for n in graph["nodes"]:
        inputs = [(source, output) for source, output, _ in n["inputs"]]
        found = shapes[n["name"] if n["op"] == "null" else f"{n['name']}_output"]
        nodes.append(_Node(n["op"], n["name"], n.get("attrs", {}), inputs, found.popleft() if found else None))
    for node in nodes:
        for source, _ in node.inputs:
            nodes[source].users.append(node)
    return nodes[: graph["heads"][0][0] + 1]


class _Value(NamedTuple):
    """What stands for a node's output in the new graph.

    spare: how many channels of no meaning lie behind its own. pads: the rows and columns of zeros that the
    convolutions which read it have to add at (begin, end), as tuples by axis; none for ().
    """

    symbol: object
    dtype: np.dtype = FLOAT32
    spare: int = 0
    pads: tuple = ()


class _Rewriting:
    """One walk over the graph in topological order that composes the new graph next to it."""

    def __init__(self, nodes, params, rows, dtype, rotated, multiple, spare):
        self.nodes, self.old_params, self.params, self.values, self.count = nodes, params, {}, [], {}
        self.rows, self.dtype, self.rotated, self.multiple, self.spare = rows, dtype, rotated, multiple, spare
        rules = {"null": self._variable, "Pad": self._pad, "BatchNorm": self._batch_norm,
                 "Convolution": self._convolution, "FullyConnected": self._dense,
                 **dict.fromkeys(NO_OPS, self._input)}  # fmt: skip
        for node in nodes:
            self.values.append(rules.get(node.op, self._copy)(node))
        self.output = self._cast(self._own_channels(nodes[-1], self.values[-1]), FLOAT32).symbol

    def _input(self, node, index=0):
        source, output = node.inputs[index]
        value = self.values[source]
        return value._replace(symbol=value.symbol[output])

    def _plain_input(self, node, index=0):
        return self._own_channels(self.nodes[node.inputs[index][0]], self._input(node, index))

    def _own_channels(self, node, value):
        if not value.spare:
            return value
        own = mx.sym.slice_axis(value.symbol, axis=1, begin=0, end=node.shape[1], name=self._name("own"))
        return value._replace(symbol=own, spare=0)

    def _cast(self, value, dtype):
        if value.dtype == dtype:
            return value
        return value._replace(symbol=mx.sym.amp_cast(value.symbol, dtype=dtype, name=self._name("cast")), dtype=dtype)

    def _name(self, op):
        number = self.count[op] = self.count.get(op, -1) + 1
        return f"{op.lower().strip('_')}{number}"

    def _variable(self, node):
        # Parameters are not passed on: the operators that read them make their own.
        return _Value(mx.sym.var("data"), spare=self.spare) if node.name == "data" else _Value(None)

    def _copy(self, node):
        operator = getattr(mx.sym, node.op, None) or getattr(mx.sym._internal, node.op)
        values = [self._input(node, i) for i in range(len(node.inputs))]
        if node.op not in CHANNELWISE or len({value.spare for value in values}) > 1:
            values = [self._plain_input(node, i) for i in range(len(node.inputs))]
        if len({value.dtype for value in values}) > 1:
            values = [self._cast(value, self.dtype) for value in values]
        symbol = operator(*(value.symbol for value in values), name=self._name(node.op), **node.attrs)
        return values[0]._replace(symbol=symbol, pads=())

    def _parameter(self, name, array, dtype=FLOAT32):
        self.params[name] = mx.nd.array(array, dtype=np.float32)
        if dtype != FLOAT32:
            self.params[name] = mx.nd.amp_cast(self.params[name], dtype=dtype)
        return mx.sym.var(name)

    def _pad(self, node):
        zeros = node.attrs["mode"] == "constant" and node.attr("constant_value", 0.0) == 0
        width = node.attr("pad_width", ())
        if not zeros or any(width[:4]) or any(user.op != "Convolution" for user in node.users):
            return self._copy(node)
        return self._input(node)._replace(pads=(width[4::2], width[5::2]))

    def _batch_norm(self, node):
        if self._folded_into(self.nodes[node.inputs[0][0]]) is node:
            return self._input(node)
        name = self._name("BatchNorm")
        x = self._plain_input(node)
        inputs = [x.symbol]
        for (source, _), role in zip(node.inputs[1:], ("gamma", "beta", "moving_mean", "moving_var")):
            inputs.append(self._parameter(f"{name}_{role}", self.old_params[self.nodes[source].name]))
        return x._replace(symbol=mx.sym.BatchNorm(*inputs, name=name, **node.attrs))

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
        x, groups = self._input(node), node.attr("num_group", 1)
        if groups == 1:
            spare = -len(weight) % self.multiple
            wider = (0, spare), (0, x.spare)
        elif groups == len(weight):
            # One filter for each channel, the spare ones too.
            spare, groups = x.spare, groups + x.spare
            wider = (0, spare), (0, 0)
        else:
            x, spare = self._plain_input(node), 0
            wider = (0, 0), (0, 0)
        weight, pad = self._placed(node, weight, x.pads)
        weight = np.pad(weight, (*wider, *((0, 0) for _ in pad)))
        attrs = {**node.attrs, "kernel": weight.shape[2:], "pad": pad, "no_bias": False}
        attrs |= {"num_filter": len(weight), "num_group": groups}
        return self._layer(x, weight, np.pad(bias, wider[0]), self._name("Convolution"), **attrs)._replace(spare=spare)

    def _placed(self, node, weight, pads):
        """The kernels for input that still needs ``pads`` and is perhaps rotated, and the padding they need."""
        axes = range(weight.ndim - 2)
        dilate, stride, pad = (
            node.attr(key, (default,) * len(axes)) for key, default in (("dilate", 1), ("stride", 1), ("pad", 0))
        )
        begin, end = pads or ((0,) * len(axes),) * 2
        begin, end = np.add(begin, pad), np.add(end, pad)
        size = np.array(self.nodes[node.inputs[0][0]].shape[2:]) - (np.add(*pads) if pads else 0)
        span = (np.array(weight.shape[2:]) - 1) * dilate + 1
        # The last windows end so many rows before the end of the padding.
        unread = (size + begin + end - span) % stride
        if self.rotated:
            weight = np.flip(weight, axis=tuple(axis + 2 for axis in axes))
            begin, end, unread = end - unread, begin, np.zeros_like(unread)
        # Any padding at the end will do that makes room for the same windows.
        least = end - unread
        end = np.clip(begin, least, least + np.array(stride) - 1)
        return _even_padding(weight, begin, end, dilate), tuple(np.maximum(np.maximum(begin, end), 0).tolist())

    def _layer(self, x, weight, bias, name, **attrs):
        x = self._cast(x, self.dtype)
        weight = self._parameter(f"{name}_weight", weight, self.dtype)
        bias = self._parameter(f"{name}_bias", bias, self.dtype)
        return _Value(mx.sym.Convolution(x.symbol, weight, bias, name=name, **attrs), self.dtype)

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
        x = mx.sym.Flatten(self._cast(self._plain_input(node), FLOAT32).symbol, name=f"{name}_rows")
        if filled != self.rows:
            # Copies of the rows fill the last block; their results are cut off again.
            x = mx.sym.tile(x, reps=(math.ceil(filled / self.rows), 1), name=f"{name}_copies")
            x = mx.sym.slice_axis(x, axis=0, begin=0, end=filled, name=f"{name}_filled")
        x = mx.sym.reshape(x, shape=(-1, ROWS, width), name=f"{name}_blocks")
        x = mx.sym.transpose(x, axes=(0, 2, 1), name=f"{name}_pixels")
        x = _Value(mx.sym.reshape(x, shape=(-1, width, ROWS, 1), name=f"{name}_images"))
        x = self._layer(x, weight.reshape(units, width, 1, 1), bias, name, kernel=(1, 1), num_filter=units)
        x = mx.sym.transpose(self._cast(x, FLOAT32).symbol, axes=(0, 2, 1, 3), name=f"{name}_unpixels")
        x = mx.sym.reshape(x, shape=(-1, units), name=f"{name}_unblocks")
        return _Value(mx.sym.slice_axis(x, axis=0, begin=0, end=self.rows, name=f"{name}_output"))


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
