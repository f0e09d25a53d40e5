"""A transformer's table of positions for another number of patches: bicubic interpolation as PyTorch does it."""

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def resized(table: NDArray[np.float32], side: int, antialias: bool, offset: float = 0) -> NDArray[np.float32]:
    """The ``table`` (1, 1 + patches, width), whose first row is the class token's, for ``side`` × ``side`` patches.

    antialias, offset: as ``torch.nn.functional.interpolate`` has the first (mode "bicubic", align_corners False), and
    as DINOv2 adds the second to ``side`` before it passes on the quotient as the scale factor.
    Returns the table as it is where it has so many patches, or no square of them.
    """
    old = math.isqrt(table.shape[1] - 1)
    if old == side or old**2 != table.shape[1] - 1:
        return table.astype(np.float32, copy=False)
    weights = _antialiased(old, side) if antialias else _pointwise(old, side, old / (side + offset))
    patches = table[0, 1:].reshape(old, old, -1).astype(np.float64)
    patches = np.einsum("ik,jl,klc->ijc", weights, weights, patches, optimize=True)
    return np.concatenate([table[0, :1], patches.reshape(side**2, -1)])[None].astype(np.float32)


def _cubic(distance: Matrix, a: float) -> Matrix:
    """The cubic convolution kernel (Keys 1981) at ``distance``."""
    x = np.abs(distance)
    near, far = ((a + 2) * x - (a + 3)) * x**2 + 1, a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _pointwise(old: int, side: int, step: float) -> Matrix:
    """(side, old): four neighbours of each place, the border's rows repeated outside of it. PyTorch's a is -0.75."""
    weights = np.zeros((side, old))
    for row in range(side):
        place = (row + 0.5) * step - 0.5
        for neighbour in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[row, min(max(neighbour, 0), old - 1)] += _cubic(np.array(place - neighbour), -0.75)
    return weights


def _antialiased(old: int, side: int) -> Matrix:
    """(side, old): a kernel as wide as what is left out, cut off at the border. a is -0.5, as in Pillow."""
    step = old / side
    places = (np.arange(side)[:, None] + 0.5) * step
    weights = _cubic((np.arange(old) + 0.5 - places) / max(step, 1), -0.5)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
