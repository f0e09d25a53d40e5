"""Kernels of convolutions, as they are written so that one padding does for all sides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.inference.graph import Node, Shape

Weight = NDArray[np.float64]  # of a convolution: (filters, channels of a group, height, width)


def placed(node: Node, weight: Weight, shape: Shape, pads: tuple[Shape, ...], rotated: bool) -> tuple[Weight, Shape]:
    """The kernels ``weight`` of the convolution ``node``, and the padding that they need at both begin and end.

    shape: of its input, with the rows and columns that ``pads`` (at begin, at end; by axis) still is to add.
    rotated: whether the input comes rotated by 180°.
    """
    axes = range(weight.ndim - 2)
    dilate, stride, pad = (
        node.attr(key, (default,) * len(axes)) for key, default in (("dilate", 1), ("stride", 1), ("pad", 0))
    )
    before, after = (np.array(side) for side in pads or ((0,) * len(axes),) * 2)
    size = np.array(shape[2:]) - before - after
    begin, end = before + pad, after + pad
    span = (np.array(weight.shape[2:]) - 1) * dilate + 1
    # The last windows end so many rows before the end of the padding.
    unread = (size + begin + end - span) % stride
    if rotated:
        weight = np.flip(weight, axis=tuple(axis + 2 for axis in axes))
        begin, end, unread = end - unread, begin, np.zeros_like(unread)
    # Any padding at the end will do that makes room for the same windows.
    least = end - unread
    end = np.clip(begin, least, least + np.array(stride) - 1)
    return _even(weight, begin, end, dilate), tuple(np.maximum(np.maximum(begin, end), 0).tolist())


def _even(weight: Weight, begin: NDArray[Any], end: NDArray[Any], dilate: Shape) -> Weight:
    """Zero rows and columns that let a kernel with unequal padding at begin and end do with the larger at both.

    A longer padding at the begin moves every window back by the difference; as many zeros before the kernel
    move its weights forward again. The number of windows stays the same, at any stride.
    """
    difference = np.subtract(end, begin)
    if any(difference % dilate):
        raise ValueError(f"padding {tuple(begin)}, {tuple(end)} does not fit a kernel dilated by {dilate}")
    zeros = difference // dilate
    return np.pad(weight, ((0, 0), (0, 0), *((max(z, 0), max(-z, 0)) for z in zeros)))
