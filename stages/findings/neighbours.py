"""Each image's nearest neighbours in every subset, by the cosine of their features.

By products of blocks of vectors: of all similarities no more are there at a time than two blocks of rows have.
The vectors of all rows are there all the while.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.common.progress import progress
from stages.features.stored.records import Features
from stages.findings.components import components

Vectors = NDArray[np.float32]  # (n, dims), each of length 1

# Of how many neighbours in each subset images are compared, to find copies: more than most are copied.
NEIGHBOURS = 12
# Rows of a block: enough that a product keeps the cores busy, and little beside the features of many images.
BLOCK = 4096
# Up to this many images the features are compared whole, beyond it on their first principal components.
EXACT, REDUCED = 100_000, 64
# Rows that the components, which need not be exact, are found from.
SAMPLE = 10_000


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

    def of(self, rows: slice, subset: int) -> "Neighbours":
        """Those of ``rows`` in a ``subset``: (rows, k)."""
        return Neighbours(self.rows[rows, subset], self.similarities[rows, subset])


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
    from stages.findings import nearer  # loads Numba

    count = sum(map(len, subsets))
    found = Neighbours(
        np.full((count, len(subsets), k), -1, np.int32),
        np.full((count, len(subsets), k), -np.inf, np.float32),
    )
    numbered = list(_numbered(subsets, within))
    room = np.empty((BLOCK, BLOCK), np.float32)
    with progress(total=count, desc="comparing features", leave=False) as bar:
        for number, one in enumerate(numbered):
            for other in numbered[: number + 1]:
                products = room[: len(one.vectors), : len(other.vectors)]
                np.matmul(one.vectors, other.vectors.T, out=products)
                # What one block has with another, the other has with it.
                ends = found.of(one.rows, other.subset), found.of(other.rows, one.subset)
                nearer.merge(products, one is other, *ends, (one.rows.start, other.rows.start))
            bar.update(len(one.vectors))
    return found


class Block(NamedTuple):
    """Some rows of the subset of a number."""

    rows: slice
    subset: int
    vectors: Vectors


def _numbered(subsets: Sequence[Features], within: Space) -> Iterator[Block]:
    first = 0
    for number, subset in enumerate(subsets):
        for features in blocks(subset):
            yield Block(slice(first, first + len(features)), number, vectors(features, within))
            first += len(features)
