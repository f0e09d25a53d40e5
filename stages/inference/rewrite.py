"""Simplifies a network's graph for inference; mathematically it stays the same function.

Whatever the network: batch norms go into the weights before them, zero padding into the convolution behind it,
channels are filled up to what oneDNN has fast kernels for, and dense layers become convolutions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.backend.mx import mx
from stages.inference import constants, graph, kernels, means, norms
from stages.inference.graph import NO_OPS, Node, Shape, Symbol
from stages.inference.kernels import Weight

Arrays = Mapping[str, NDArray[Any]]
DType = np.dtype[Any]
NDArrays = dict[str, Any]  # by name, an mx.nd.NDArray each

# MXNet's own name for bfloat16, which numpy does not have.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
FLOAT32 = np.dtype(np.float32)

# Rows of a dense layer that are computed together.
ROWS = 16

# Operators that treat every channel by itself, or add channel to channel; zeros among the channels do them no harm.
CHANNELWISE = (
    *("Activation", "LeakyReLU", "Pooling", "clip", "hard_sigmoid"),
    *("broadcast_mul", "elemwise_add", "elemwise_mul"),
)

# Operators that MXNet does not compute in bfloat16, or cuts what they give off instead of rounding it.
IN_FLOAT32 = (
    *("broadcast_mul", "elemwise_mul", "hard_sigmoid"),
    *("Pad", "batch_dot", "broadcast_add", "slice_axis", "softmax"),
)


def rewrite(
    symbol: Symbol,
    arrays: Arrays,
    shape: Shape,
    dtype: DType = FLOAT32,
    rotated: bool = False,
    multiple: int = 1,
    channels: Optional[int] = None,
) -> tuple[Symbol, NDArrays]:
    """Simplifies the inference graph ``symbol`` of one output.

    arrays: by name, among them every variable of ``symbol`` but "data".
    shape: of "data", (n, 3, size, size).
    dtype: the type to compute in; input and output are float32 all the same.
    rotated: whether "data" will come rotated by 180° (see ``graph.gains_by_rotation``).
    multiple: of what the number of channels is to be a multiple; convolutions get outputs of no meaning behind theirs.
    channels: with how many channels "data" will come, if there are more of no meaning behind its own.

    Returns (symbol, NDArrays by name). New names depend only on the graph, not on how many networks were built before.
    Raises ValueError for an operator that is none of MXNet's public ones.
    """
    spare = 0 if channels is None else channels - shape[1]
    nodes = graph.read(symbol, shape)
    arrays = constants.folded(symbol, nodes, arrays)
    rewriting = _Rewriting(nodes, arrays, shape[0], np.dtype(dtype), rotated, multiple, spare)
    return rewriting.output, rewriting.parameters


class _Value(NamedTuple):
    """What stands for a node's output in the new graph.

    spare: how many channels of no meaning lie behind its own. pads: the rows and columns of zeros that the
    convolutions which read it have to add at (begin, end), as tuples by axis; none for ().
    """

    symbol: Symbol
    dtype: DType = FLOAT32
    spare: int = 0
    pads: tuple[Shape, ...] = ()


class _Rewriting:
    """One walk over the graph in topological order that composes the new graph next to it."""

    def __init__(
        self,
        nodes: Sequence[Node],
        arrays: Arrays,
        rows: int,
        dtype: DType,
        rotated: bool,
        multiple: int,
        spare: int,
    ) -> None:
        self.nodes, self.arrays, self.rows, self.dtype = nodes, arrays, rows, dtype
        self.rotated, self.multiple, self.spare = rotated, multiple, spare
        self.parameters: NDArrays = {}
        self.values: list[_Value] = []
        self.count: dict[str, int] = {}
        rules: dict[str, Callable[[Node], _Value]] = {
            "null": self._variable,
            "Pad": self._pad,
            "BatchNorm": self._batch_norm,
            "Convolution": self._convolution,
            "FullyConnected": self._dense,
            "LayerNorm": self._layer_norm,
            "Pooling": self._pooling,
            **dict.fromkeys(NO_OPS, self._input),
        }
        for node in nodes:
            value = rules.get(node.op, self._copy)(node)
            self.values.append(self._laid_plainly(node, value) if graph.gates_itself(node) else value)
        self.output = self._cast(self._own_channels(nodes[-1], self.values[-1]), FLOAT32).symbol

    def _laid_plainly(self, node: Node, value: _Value) -> _Value:
        # MXNet multiplies in the plain layout, and would bring both factors there from oneDNN's own.
        value = self._cast(value, FLOAT32)
        return value._replace(
            symbol=mx.sym.reshape(value.symbol, shape=(0,) * len(_shape(node)), name=self._name("plain"))
        )

    def _input(self, node: Node, index: int = 0) -> _Value:
        source, output = node.inputs[index]
        value = self.values[source]
        if value.symbol is None:
            name = self.nodes[source].name
            return _Value(self._parameter(self._name("constant"), self.arrays[name]))
        return value._replace(symbol=value.symbol[output])

    def _plain_input(self, node: Node, index: int = 0) -> _Value:
        return self._own_channels(self.nodes[node.inputs[index][0]], self._input(node, index))

    def _own_channels(self, node: Node, value: _Value) -> _Value:
        if not value.spare:
            return value
        own = mx.sym.slice_axis(value.symbol, axis=1, begin=0, end=_shape(node)[1], name=self._name("own"))
        return value._replace(symbol=own, spare=0)

    def _cast(self, value: _Value, dtype: DType) -> _Value:
        if value.dtype == dtype:
            return value
        return value._replace(symbol=mx.sym.amp_cast(value.symbol, dtype=dtype, name=self._name("cast")), dtype=dtype)

    def _name(self, op: str) -> str:
        number = self.count[op] = self.count.get(op, -1) + 1
        return f"{op.lower().strip('_')}{number}"

    def _variable(self, node: Node) -> _Value:
        # Parameters are not passed on: the operators that read them make their own.
        return _Value(mx.sym.var("data"), spare=self.spare) if node.name == "data" else _Value(None)

    def _copy(self, node: Node) -> _Value:
        operator = getattr(mx.sym, node.op, None)
        if operator is None:
            raise ValueError(f"the operator {node.op} ({node.name}) cannot be compiled")
        values = [self._input(node, i) for i in range(len(node.inputs))]
        if node.op not in CHANNELWISE or len({value.spare for value in values}) > 1:
            values = [self._plain_input(node, i) for i in range(len(node.inputs))]
        if node.op in IN_FLOAT32 and self.dtype == BFLOAT16:
            values = [self._cast(value, FLOAT32) for value in values]
        elif len({value.dtype for value in values}) > 1:
            values = [self._cast(value, self.dtype) for value in values]
        symbol = operator(*(value.symbol for value in values), name=self._name(node.op), **node.attrs)
        return values[0]._replace(symbol=symbol, pads=())

    def _parameter(self, name: str, array: NDArray[Any], dtype: DType = FLOAT32) -> Symbol:
        self.parameters[name] = mx.nd.array(array, dtype=np.float32)
        if dtype != FLOAT32:
            self.parameters[name] = mx.nd.amp_cast(self.parameters[name], dtype=dtype)
        return mx.sym.var(name)

    def _pad(self, node: Node) -> _Value:
        zeros = node.attrs["mode"] == "constant" and node.attr("constant_value", 0.0) == 0
        width = node.attr("pad_width", ())
        if not zeros or any(width[:4]) or any(user.op != "Convolution" for user in node.users):
            return self._copy(node)
        return self._input(node)._replace(pads=(width[4::2], width[5::2]))

    def _batch_norm(self, node: Node) -> _Value:
        if self._folded_into(self.nodes[node.inputs[0][0]]) is node:
            return self._input(node)
        name = self._name("BatchNorm")
        x = self._plain_input(node)
        inputs = [x.symbol]
        for (source, _), role in zip(node.inputs[1:], ("gamma", "beta", "moving_mean", "moving_var")):
            inputs.append(self._parameter(f"{name}_{role}", self.arrays[self.nodes[source].name]))
        return x._replace(symbol=mx.sym.BatchNorm(*inputs, name=name, **node.attrs))

    def _pooling(self, node: Node) -> _Value:
        name, x = self._name("Pooling"), self._input(node)
        parts = means.in_parts(x.symbol, node, self.nodes[node.inputs[0][0]].shape, name)
        return x._replace(symbol=mx.sym.Pooling(parts, name=name, **node.attrs), pads=())

    def _layer_norm(self, node: Node) -> _Value:
        # MXNet computes in bfloat16 neither this nor the transposes.
        name, x = self._name("LayerNorm"), self._cast(self._plain_input(node), FLOAT32)
        scale, shift = (
            self._parameter(f"{name}_{role}", self.arrays[self.nodes[source].name])
            for (source, _), role in zip(node.inputs[1:], ("gamma", "beta"))
        )
        return _Value(norms.layer_norm(x.symbol, scale, shift, len(_shape(node)), name, node.attrs))

    def _folded_into(self, layer: Node) -> Optional[Node]:
        """The batch norm that scales the output of ``layer``, a convolution or dense layer, and nothing else reads."""
        if layer.op in ("Convolution", "FullyConnected") and [user.op for user in layer.users] == ["BatchNorm"]:
            return layer.users[0]
        return None

    def _weights(self, layer: Node) -> tuple[Weight, Weight]:
        """Weights and bias of a convolution or dense layer in float64, with the batch norm behind it."""
        arrays = [self.arrays[self.nodes[source].name].astype(np.float64) for source, _ in layer.inputs[1:]]
        weight, bias = arrays if len(arrays) == 2 else (arrays[0], np.zeros(len(arrays[0])))
        norm = self._folded_into(layer)
        if norm is None:
            return weight, bias
        gamma, beta, mean, var = (
            self.arrays[self.nodes[source].name].astype(np.float64) for source, _ in norm.inputs[1:]
        )
        scale = 1 / np.sqrt(var + norm.attr("eps", 1e-3))
        if not norm.attr("fix_gamma", True):
            scale = scale * gamma
        return weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1)), beta + (bias - mean) * scale

    def _convolution(self, node: Node) -> _Value:
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
        shape = _shape(self.nodes[node.inputs[0][0]])
        weight, pad = kernels.placed(node, weight, shape, x.pads, self.rotated)
        weight = np.pad(weight, (*wider, *((0, 0) for _ in pad)))
        attrs = {**node.attrs, "kernel": weight.shape[2:], "pad": pad, "no_bias": False}
        attrs |= {"num_filter": len(weight), "num_group": groups}
        return self._layer(x, weight, np.pad(bias, wider[0]), self._name("Convolution"), **attrs)._replace(spare=spare)

    def _layer(self, x: _Value, weight: Weight, bias: Weight, name: str, **attrs: Any) -> _Value:
        x = self._cast(x, self.dtype)
        inputs = (self._parameter(f"{name}_{role}", a, self.dtype) for role, a in (("weight", weight), ("bias", bias)))
        return _Value(mx.sym.Convolution(x.symbol, *inputs, name=name, **attrs), self.dtype)

    def _dense(self, node: Node) -> _Value:
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


def _shape(node: Node) -> Shape:
    """The shape of the node's output, (n, channels, …)."""
    if node.shape is None:
        raise ValueError(f"{node.op} ({node.name}) has several outputs and cannot be compiled")
    return node.shape
