"""8-bit integers for a convolution's inputs, weights and outputs (MXNet's quantization on oneDNN; CPUs only).

Every quantized layer needs the range its values may take, and the mean of its inputs: rounding the weights moves a
layer's outputs by their errors times that mean, and the bias takes this back (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.2). ``calibrate`` measures both.
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
    convolutions = {node["name"] for node in _nodes(integer) if node["op"] == "_sg_mkldnn_conv"}
    nodes = _nodes(symbol)
    layers = []
    for node in nodes:
        if f"quantized_{node['name']}" in convolutions:
            source, weight, bias = (nodes[index] for index, *_ in node["inputs"][:3])
            name = source["name"] if source["op"] == "null" else f"{source['name']}_output"
            layers.append(Layer(name, weight["name"], bias["name"]))
    return sorted(outputs), layers


def correction(weight: NDArray[np.float32], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to the bias of a convolution so that rounding its weights leaves the mean of its outputs.

    weight: (filters, channels of a group, height, width). means: of its inputs, (channels,).
    Returns (filters,). Padding is taken for average input.
    """
    lost = (weight - _rounded(weight)).sum(axis=(2, 3))
    groups = len(means) // lost.shape[1]
    return (lost.reshape(groups, -1, lost.shape[1]) @ means.reshape(groups, -1, 1)).ravel()


def _rounded(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    # 127.5 for the largest of a filter, and this one cut to 127, is how MXNet does it.
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    scale = 127.5 / np.where(largest == 0, 1, largest)
    return (weight * scale).round().clip(-128, 127) / scale


def quantized(
    symbol: Symbol, parameters: NDArrays, ranges: Ranges, corrections: Corrections
) -> tuple[Symbol, NDArrays]:
    """Makes the layers of ``symbol`` (from ``fuse``) compute in integers; returns (symbol, NDArrays by name).

    ranges, corrections: of the outputs and layers that :func:`measured` names.
    Raises ValueError if an output has no range: MXNet would then take the range of each batch, and a feature would
    depend on its neighbours.
    """
    added = {name: mx.nd.array(values) for name, values in corrections.items()}
    parameters = {**parameters, **{name: parameters[name] + values for name, values in added.items()}}
    integer, outputs = _prepared(symbol, parameters)
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


def _nodes(symbol: Symbol) -> list[dict[str, Any]]:
    return json.loads(symbol.tojson())["nodes"]
