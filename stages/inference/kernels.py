"""Kernels of convolutions, as they are written so that one padding does for all sides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.inference.graph import Shape

Weight = NDArray[np.float64]  # of a convolution: (filters, channels of a group, height, width)


def even_padding(weight: Weight, begin: NDArray[Any], end: NDArray[Any], dilate: Shape) -> Weight:
    """Zero rows and columns that let a kernel with unequal padding at begin and end do with the larger at both.

    A longer padding at the begin moves every window back by the difference; as many zeros before the kernel
    move its weights forward again. The number of windows stays the same, at any stride.
    """
    difference = np.subtract(end, begin)
    if any(difference % dilate):
        raise ValueError(f"padding {tuple(begin)}, {tuple(end)} does not fit a kernel dilated by {dilate}")
    zeros = difference // dilate
    return np.pad(weight, ((0, 0), (0, 0), *((max(z, 0), max(-z, 0)) for z in zeros)))
