"""Whether probabilities mean what they say: of the images that get 0.9, are nine in ten right?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.classifier.scores import Labels

BINS = 15


class Bin(NamedTuple):
    """The ``rows`` whose likeliest class has a probability in the bin: the mean of it, and the share that is right."""

    rows: int
    probability: float
    accuracy: float


def bins(probabilities: NDArray[np.float64], labels: Labels) -> list[Bin]:
    """``BINS`` bins of equal width, from 0 to 1; without rows, both shares are 0. probabilities: (n, classes)."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(number, minlength=BINS)
    sums = [np.bincount(number, values, minlength=BINS) / np.maximum(rows, 1) for values in (sure, right)]
    return [Bin(*values) for values in zip(rows.tolist(), *(array.tolist() for array in sums))]


def expected_error(found: Sequence[Bin]) -> float:
    """The expected calibration error (ECE, Guo et al. 2017): how far probability and accuracy of a row's bin are
    apart, on the mean of the rows.
    """
    rows = sum(each.rows for each in found)
    return sum(each.rows * abs(each.probability - each.accuracy) for each in found) / rows
