"""The principal components of many vectors, by subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4).

As scikit-learn finds them, but to import that takes longer than to find them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Directions that are followed beyond those asked for, and how often the vectors are gone through for them.
MORE, ROUNDS = 10, 5


def components(centred: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The ``count`` directions of the largest variance of the rows of ``centred`` (n, dim), whose mean is 0.

    Returns float32 (dim, at most count), orthonormal, the largest first; the same for the same rows.
    """
    count = min(count, *centred.shape)
    start = np.random.default_rng(0).standard_normal((centred.shape[1], min(count + MORE, *centred.shape)))
    directions = start.astype(np.float32)
    for _ in range(ROUNDS):
        directions = np.linalg.qr(centred.T @ np.linalg.qr(centred @ directions)[0])[0]
    _, _, turned = np.linalg.svd(centred @ directions, full_matrices=False)
    return _upright(directions @ turned[:count].T)


def _upright(axes: NDArray[Any]) -> NDArray[np.float32]:
    """``axes`` with the largest entry of each positive: else their signs would be left to chance."""
    largest = np.take_along_axis(axes, abs(axes).argmax(axis=0)[None], axis=0)
    return np.ascontiguousarray(axes * np.where(largest < 0, -1, 1), np.float32)
