"""Each image's nearest neighbours in every subset, by the cosine of their features.

By products of blocks of vectors: of all similarities no more are there at a time than two blocks of rows have.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.common.progress import progress
from stages.findings.components import components

Features = NDArray[Any]  # (n, dim), of any float dtype
Vectors = NDArray[np.float32]  # (n, dims), each of length 1

# Of how many neighbours in each subset images are compared, to find copies: more than most are copied.
NEIGHBOURS = 12
# Rows of a block: enough that a product keeps the cores busy, and little beside the features of many images.
BLOCK = 4096
# Up to this many images the features are compared whole, beyond it on their first principal components.
EXACT, REDUCED = 100_000, 64
# Rows that the components, which need not be exact, are found from.
SAMPLE = 10_000
# Columns of which only the largest is looked at first.
BUNDLE = 16


class Space(NamedTuple):
    """How features become vectors: their ``mean`` (dim,) is taken off, then they go through ``axes`` (dim, dims)."""

    mean: NDArray[np.float32]
    axes: Optional[NDArray[np.float32]]


class Neighbours(NamedTuple):
    """The nearest first within a subset: rows[i, s] are those of row i in subset s, similarities their cosines.

    rows: int32 (n, subsets, k), -1 where a subset has fewer; similarities: float32, of the same shape, -inf there.
    Rows are numbered through all subsets, one after the other. No row is a neighbour of its own.
    """

    rows: NDArray[np.int32]
    similarities: NDArray[np.float32]


def space(subsets: Sequence[Features]) -> Space:
    """The space in which the features of all ``subsets`` are compared."""
    count = sum(map(len, subsets))
    total = sum((block.sum(axis=0, dtype=np.float64) for subset in subsets for block in blocks(subset)), np.zeros(1))
    mean = (total / count).astype(np.float32)
    return Space(mean, None if count <= EXACT else _axes(subsets, mean, count))


def _axes(subsets: Sequence[Features], mean: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    step = -(-count // SAMPLE)
    sample = np.concatenate([subset[::step].astype(np.float32) for subset in subsets]) - mean
    return components(sample - sample.mean(axis=0), REDUCED)


def coordinates(features: Features, within: Space) -> NDArray[np.float32]:
    """Where ``features`` (n, dim) lie in that space: (n, dims)."""
    found = features.astype(np.float32)
    found -= within.mean
    return found if within.axes is None else found @ within.axes


def vectors(features: Features, within: Space) -> Vectors:
    """``features`` (n, dim) in that space, each of length 1, or 0 where it is the mean."""
    found = coordinates(features, within)
    lengths = np.sqrt(np.einsum("ij,ij->i", found, found))
    found /= np.where(lengths > 0, lengths, 1)[:, None]
    return found


def blocks(features: Features) -> Iterator[Features]:
    """``features`` in pieces of ``BLOCK`` rows, the last as long as what is left."""
    return (features[start : start + BLOCK] for start in range(0, len(features), BLOCK))


def nearest(subsets: Sequence[Features], within: Space, k: int) -> Neighbours:
    """The ``k`` nearest neighbours of every row in each of ``subsets``."""
    count = sum(map(len, subsets))
    found = Neighbours(
        np.full((count, len(subsets), k), -1, np.int32),
        np.full((count, len(subsets), k), -np.inf, np.float32),
    )
    numbered = list(_numbered(subsets))
    products = np.empty((BLOCK + BUNDLE, BLOCK + BUNDLE), np.float32)
    with progress(total=count, desc="comparing features", leave=False) as bar:
        for number, one in enumerate(numbered):
            queries = vectors(one.features, within)
            for other in numbered[: number + 1]:
                similar = _products(queries, vectors(other.features, within), products)
                if other is one:
                    np.fill_diagonal(similar, -np.inf)
                else:
                    # What one block has with another, the other has with it.
                    _merge(found, other.rows, one, similar[:, : len(other.features)].T)
                _merge(found, one.rows, other, similar[: len(queries)])
            bar.update(len(queries))
    return found


class _Block(NamedTuple):
    """Some rows of the subset of a number, and their features."""

    rows: slice
    subset: int
    features: Features


def _numbered(subsets: Sequence[Features]) -> Iterator[_Block]:
    first = 0
    for number, subset in enumerate(subsets):
        for features in blocks(subset):
            yield _Block(slice(first, first + len(features)), number, features)
            first += len(features)


def _products(queries: Vectors, keys: Vectors, room: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosines (queries, keys), in ``room``; with rows and columns of -inf to a multiple of ``BUNDLE``."""
    rows, columns = (-(-len(each) // BUNDLE) * BUNDLE for each in (queries, keys))
    products = room[:rows, :columns]
    np.matmul(queries, keys.T, out=products[: len(queries), : len(keys)])
    products[len(queries) :] = products[:, len(keys) :] = -np.inf
    return products


def _merge(found: Neighbours, own: slice, block: _Block, similar: NDArray[np.float32]) -> None:
    """Puts into ``found``, of the rows ``own``, what is nearer in ``similar`` (own, rows of ``block`` and more)."""
    rows, similarities = found.rows[own, block.subset], found.similarities[own, block.subset]
    k, first = rows.shape[1], block.rows.start
    # The k largest of a row are in those k bundles whose largest are the largest: no need to look at the others.
    bundles = similar.reshape(len(similar), BUNDLE, -1)
    width = bundles.shape[2]
    chosen = _largest(bundles.max(axis=1), k)
    columns = (chosen[:, :, None] + np.arange(0, BUNDLE * width, width)).reshape(len(similar), -1)
    values = np.concatenate([similarities, np.take_along_axis(similar, columns, axis=1)], axis=1)
    numbers = np.concatenate([rows, (columns + first).astype(np.int32)], axis=1)
    order = _largest(values, k)
    order = np.take_along_axis(order, np.argsort(-np.take_along_axis(values, order, 1), axis=1, kind="stable"), 1)
    similarities[:] = np.take_along_axis(values, order, axis=1)
    rows[:] = np.where(similarities > -np.inf, np.take_along_axis(numbers, order, axis=1), -1)


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The columns of the ``k`` largest of each row, or of all where there are no more, in no order."""
    count = values.shape[1]
    if count <= k:
        return np.broadcast_to(np.arange(count), values.shape)
    return np.argpartition(values, count - k, axis=1)[:, count - k :]
