"""8-bit integers for a convolution's inputs, weights and outputs (MXNet's quantization on oneDNN; CPUs only).

Every quantized layer needs the range its values may take, and the mean of its inputs: rounding the weights moves a
layer's outputs by their errors times that mean, and the bias takes this back (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.2). ``calibrate`` measures both. What is left
of the errors of a depthwise filter cancels out where the map is even: see :func:`settled`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.backend.mx import mx
from stages.inference.graph import Symbol
from stages.inference.rewrite import NDArrays

Ranges = Mapping[str, tuple[float, float]]  # by the name of an output, the lowest and the highest value
Corrections = Mapping[str, Sequence[float]]  # by the name of a bias, what to add to it


def fuse(symbol: Symbol) -> Symbol:
    """Joins convolutions with what follows them, in the way that the other functions here need."""
    return symbol.get_backend_symbol("MKLDNN_QUANTIZE")


class Layer(NamedTuple):
    """A quantized convolution: the names of what it reads."""

    input: str
    weight: str
    bias: str


def measured(symbol: Symbol, parameters: NDArrays) -> tuple[list[str], list[Layer]]:
    """What to measure inside ``symbol`` (from ``fuse``): outputs whose ranges, layers of whose inputs the means."""
    integer, outputs = _prepared(symbol, parameters)
    return sorted(outputs), _layers(symbol, integer)


def correction(weight: NDArray[np.float32], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to the bias of a convolution so that rounding its weights leaves the mean of its outputs.

    weight: (filters, channels of a group, height, width). means: of its inputs, (channels,).
    Returns (filters,). Padding is taken for average input.
    """
    lost = (weight - rounded(settled(weight))).sum(axis=(2, 3))
    groups = len(means) // lost.shape[1]
    return (lost.reshape(groups, -1, lost.shape[1]) @ means.reshape(groups, -1, 1)).ravel()


def settled(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights of a convolution, moved so that :func:`rounded` makes of them what serves best.

    weight: (filters, channels of a group, height, width). Those of a depthwise convolution, with one channel in a
    group, are so few that their errors leave the sum of a filter wrong, and an even map sees nothing but that sum.
    So one weight after the other is rounded such that the square of their common error is least, in the mean over
    maps whose values correlate by 1/2 per pixel of distance, along rows and columns (compare Nagel et al. 2020, "Up or
    Down? Adaptive Rounding for Post-Training Quantization"). Going through them once more gains nothing, and 1/4 or 3/4
    do about as well: what Lite0's depthwise convolutions read correlates by 0.9 in the first, by 0.3 to 0.5 later.
    Weights of other convolutions are returned as they are.
    """
    if weight.shape[1] != 1:
        return weight
    scale, (height, width) = _scale(weight), weight.shape[2:]
    # In steps, (height × width, filters). Sums go over the first axis: in the same order on every CPU.
    exact = (weight * scale).reshape(len(weight), -1).T.astype(np.float64)
    steps = exact.round().clip(-128, 127)
    largest = np.abs(exact) == np.abs(exact).max(axis=0)
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width])
    correlations = np.ldexp(1.0, -abs(y[:, None] - y) - abs(x[:, None] - x))
    for tap, correlation in enumerate(correlations):
        best = steps[tap] + (correlation[:, None] * (exact - steps)).sum(axis=0)
        # The largest set the scale and stay, and no other may get larger.
        steps[tap] = np.where(largest[tap], steps[tap], best.round().clip(-127, 127))
    moved = (steps.T.reshape(weight.shape) / scale).astype(np.float32)
    return np.where(largest.T.reshape(weight.shape), weight, moved)


def rounded(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """What MXNet takes for the weights of a convolution: (filters, channels of a group, height, width)."""
    scale = _scale(weight)
    return (weight * scale).round().clip(-128, 127) / scale


def _scale(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    # 127.5 for the largest of a filter, and this one cut to 127, is how MXNet does it.
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    return 127.5 / np.where(largest == 0, 1, largest)


def quantized(
    symbol: Symbol, parameters: NDArrays, ranges: Ranges, corrections: Corrections
) -> tuple[Symbol, NDArrays]:
    """Makes the layers of ``symbol`` (from ``fuse``) compute in integers; returns (symbol, NDArrays by name).

    ranges, corrections: of the outputs and layers that :func:`measured` names.
    Raises ValueError if an output has no range: MXNet would then take the range of each batch, and a feature would
    depend on its neighbours.
    """
    integer, outputs = _prepared(symbol, parameters)
    changed = {name: parameters[name] + mx.nd.array(values) for name, values in corrections.items()}
    for layer in _layers(symbol, integer):
        weight = parameters[layer.weight]
        # Others stay, and need no copies: VGG16's would take 500 MB.
        if weight.shape[1] == 1:
            changed[layer.weight] = mx.nd.array(settled(weight.asnumpy()))
    parameters = {**parameters, **changed}
    missing = sorted(outputs - set(ranges))
    if missing:
        raise ValueError(f"the calibration belongs to another network: it has no range for {', '.join(missing)}")
    table = _Table({name: ranges[name] for name in outputs})
    integer, arguments, _ = mx.contrib.quantization.calib_graph(
        integer, parameters, {}, table, "customize", logger=None
    )
    return fuse(integer), {**parameters, **arguments}


class _Table:
    # What calib_graph reads.
    def __init__(self, ranges: Ranges) -> None:
        self.min_max_dict = ranges


def _prepared(symbol: Symbol, parameters: NDArrays) -> tuple[Symbol, set[str]]:
    """The graph in integers whose ranges are not known yet, and the outputs that need them."""
    integer, _, _, collector = mx.contrib.quantization.quantize_graph(
        symbol,
        parameters,
        {},
        calib_mode="naive",
        quantized_dtype="auto",
        quantize_mode="smart",
        quantize_granularity="channel-wise",
    )
    return integer, set(collector.include_layer)


def _layers(symbol: Symbol, integer: Symbol) -> list[Layer]:
    """The convolutions of ``symbol`` (from :func:`fuse`) that ``integer`` computes in integers."""
    convolutions = {node["name"] for node in _nodes(integer) if node["op"] == "_sg_mkldnn_conv"}
    nodes = _nodes(symbol)
    layers = []
    for node in nodes:
        if f"quantized_{node['name']}" in convolutions:
            source, weight, bias = (nodes[index] for index, *_ in node["inputs"][:3])
            name = source["name"] if source["op"] == "null" else f"{source['name']}_output"
            layers.append(Layer(name, weight["name"], bias["name"]))
    return layers


def _nodes(symbol: Symbol) -> list[dict[str, Any]]:
    return json.loads(symbol.tojson())["nodes"]
