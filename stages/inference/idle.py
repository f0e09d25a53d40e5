"""Idle channels at the begin of a network, lent to others for which 8 bits are too few.

All channels of a map share one scale. A depthwise convolution that takes differences of neighbouring pixels amplifies
how its inputs were rounded, and of a picture of low contrast, or without colours, little else is left. Other channels
have died in training: of the first 32 of EfficientNet-Lite0 four give nothing. Such a channel becomes a copy of
another, half a step of the 8 bits apart from it, and what reads both takes their mean: as
``floor(x) + floor(x + 1/2) = floor(2x)``, that is known to half a step. No shape changes, so it costs no time. (Zhao et
al. 2019, "Improving Neural Network Quantization without Retraining using Outlier Channel Splitting", add channels.)

At the begin alone: the maps of later layers are mostly 0, which gets no finer, and there it gained nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.backend.mx import mx
from stages.inference import graph
from stages.inference.graph import Node, Shape, Symbol
from stages.inference.quantize import rounded
from stages.inference.rewrite import NDArrays

# Values that are never negative are rounded to so many steps.
STEPS = 255


class _Begin(NamedTuple):
    """The convolutions that a network begins with, which nothing else reads: any, a depthwise one behind a clip, any.

    largest: what the clip cuts at.
    """

    first: Node
    depthwise: Node
    last: Node
    largest: float


def lent(symbol: Symbol, parameters: NDArrays, shape: Shape) -> NDArrays:
    """Other ``parameters`` for ``symbol`` (from ``rewrite``), with which it loses less in 8 bits.

    shape: of "data". Before rounding, the function stays the same, but for values within half a step of 0 or of the
    clip's bound, and for the little that idle channels gave: they are those whose weights in what reads them all round
    to 0. A network that does not begin with a depthwise convolution behind a clip keeps its parameters.
    """
    nodes = graph.read(symbol, shape)
    begin = _begin(nodes)
    if begin is None:
        return parameters
    names = [nodes[source].name for node in begin[:3] for source, _ in node.inputs[1:]]
    arrays = [parameters[name].asnumpy() for name in names]
    _lend(arrays, begin.largest / STEPS)
    return {**parameters, **{name: mx.nd.array(array) for name, array in zip(names, arrays)}}


def _begin(nodes: Sequence[Node]) -> Optional[_Begin]:
    data = next(node for node in nodes if node.name == "data")
    first, clip, depthwise = _only_user(data), _only_user(data, 2), _only_user(data, 3)
    if first is None or clip is None or depthwise is None:
        return None
    last = _only_user(depthwise)
    while last is not None and last.op in ("Activation", "clip"):
        last = _only_user(last)
    # Without a bound the step is not known beforehand.
    if clip.op != "clip" or clip.attr("a_min", 0) != 0 or not _groups(depthwise) == depthwise.attr("num_filter", 0) > 1:
        return None
    if last is None or _groups(first) != 1 or _groups(last) != 1:
        return None
    return _Begin(first, depthwise, last, clip.attr("a_max", 0.0))


def _only_user(node: Node, distance: int = 1) -> Optional[Node]:
    """What alone reads ``node``, or what alone reads that, …; None where something else does too."""
    for _ in range(distance):
        if len(node.users) != 1:
            return None
        node = node.users[0]
    return node


def _groups(node: Node) -> int:
    """Of a convolution; 0 for another operator."""
    return int(node.attr("num_group", 1)) if node.op == "Convolution" else 0


def _lend(arrays: Sequence[NDArray[np.float32]], step: float) -> None:
    """Changes ``arrays`` in place: weight and bias of each of three convolutions in a row."""
    first, first_bias, depthwise, depthwise_bias, last, _ = arrays
    idle = np.flatnonzero((rounded(last) == 0).all(axis=(0, 2, 3)))
    # By channel: what its rounding does to the results of the last convolution, squared.
    noise = _squares(depthwise, (1, 2, 3)) * _squares(last, (0, 2, 3))
    noise[idle] = 0
    places = {channel: [channel] for channel in range(len(noise))}
    for place in idle:
        # The mean of n copies is known to the n-th part of a step.
        left = [noise[channel] / len(taken) ** 2 for channel, taken in places.items()]
        places[int(np.argmax(left))].append(place)
    for channel, taken in places.items():
        count = len(taken)
        if count > 1 and noise[channel] > 0:
            apart = ((np.arange(count) + 0.5) / count - 0.5) * step
            first[taken], first_bias[taken] = first[channel], first_bias[channel] + apart
            depthwise[taken] = depthwise[channel]
            depthwise_bias[taken] = depthwise_bias[channel] - apart * depthwise[channel].sum()
            last[:, taken] = last[:, [channel]] / count


def _squares(weight: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float64]:
    return np.square(weight.astype(np.float64)).sum(axis=axes)
