"""Of many products of vectors the largest of each row and column, in one pass: machine code."""

import numpy as np
from numpy.typing import NDArray

from stages.common.compiled import compiled

Rows = NDArray[np.int32]  # (n, k)
Similarities = NDArray[np.float32]  # (n, k)


@compiled
def _insert(similarities: Similarities, rows: Rows, place: int, value: float, row: int) -> None:
    """Puts a ``row`` among those at ``place``, whose last falls out; of equals behind those that are there."""
    k = similarities.shape[1] - 1
    while k > 0 and similarities[place, k - 1] < value:
        similarities[place, k], rows[place, k] = similarities[place, k - 1], rows[place, k - 1]
        k -= 1
    similarities[place, k], rows[place, k] = value, row


@compiled
def merge(
    products: NDArray[np.float32],
    same: bool,
    one: tuple[Rows, Similarities],
    other: tuple[Rows, Similarities],
    first: tuple[int, int],
) -> None:
    """Puts what is nearer in ``products`` (m, n), of a block of rows with another or the same, into both's neighbours.

    one, other: the neighbours of m rows in the subset of the others, and of n in that of these, the nearest first.
    first: the numbers of the first rows of both.
    """
    rows, similarities = one
    other_rows, other_similarities = other
    # Beside each other, as they are looked at.
    least = other_similarities[:, -1].copy()
    for i in range(products.shape[0]):
        for j in range(i + 1 if same else 0, products.shape[1]):
            product = products[i, j]
            if product > similarities[i, -1]:
                _insert(similarities, rows, i, product, first[1] + j)
            if product > least[j]:
                _insert(other_similarities, other_rows, j, product, first[0] + i)
                least[j] = other_similarities[j, -1]
