"""Principal axes: the directions in which what a head learns from varies.

Optimizers that give each weight a step size of its own (adam, rmsprop, adagrad) find the least loss sooner along them
than along features, which vary together; for the others a turn changes nothing. Without a direction of its own
nothing is learnt of a weight that starts at 0, so where rows are few, axes are too, and a step costs less.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Of the largest variance: what is less is rounding.
LEAST = 1e-7
# Rows or features, whichever are fewer, of which axes are found: it takes a second, of twice as many eight.
MOST = 2048


class Axes(NamedTuple):
    """mean: (width,), which is taken off. turn: (width, axes), orthonormal columns, the largest variance first."""

    mean: Array
    turn: Array

    def along(self, x: Array) -> Array:
        """What rows (n, width) are along the axes: (n, axes)."""
        return (x - self.mean) @ self.turn

    def back(self, weights: Array) -> Array:
        """The weights (classes, width + 1), the bias last, that make of rows what ``weights`` (classes, axes + 1) make
        of them along the axes.
        """
        turned = weights[:, :-1] @ self.turn.T
        return np.hstack([turned, weights[:, -1:] - turned @ self.mean[:, None]])


def principal(x: Array, weights: Array) -> Axes:
    """The axes of rows (n, width), at most as many as there are rows. weights: (n,), how much each row counts."""
    mean = np.average(x, axis=0, weights=weights.astype(np.float64)).astype(np.float32)
    centred = (x - mean) * np.sqrt(weights)[:, None]
    few = len(x) < x.shape[1]
    variances, vectors = np.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    kept = np.flatnonzero(variances > LEAST * variances[-1])[::-1]
    turn = vectors[:, kept]
    if few:
        turn = centred.T @ (turn / np.sqrt(variances[kept]))
    return Axes(mean, np.ascontiguousarray(turn, np.float32))
