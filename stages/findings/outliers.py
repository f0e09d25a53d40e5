"""Images that are unlike all others: far from even their nearest neighbours."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.findings.neighbours import Neighbours

# The distance of an image is that to so many of its neighbours, which a handful of its kind does not hide.
NEIGHBOURS = 12
# How far out: so many deviations beyond the median, robustly measured (see docs/audit.md).
FAR = 5.0
# The median absolute deviation of a normal distribution is that much of its standard deviation.
NORMAL = 0.6745


class Outlier(NamedTuple):
    """score: from 0 to 1, how much of the distance of the image of a ``row`` is beyond what is usual."""

    row: int
    score: float


def outliers(neighbours: Neighbours) -> list[Outlier]:
    """The rows that lie far out, the farthest first."""
    distances = _distances(neighbours)
    usual = float(np.median(distances))
    deviation = float(np.median(abs(distances - usual))) / NORMAL
    rows = np.flatnonzero(distances > usual + FAR * deviation) if deviation else np.empty(0, np.int64)
    scores = 1 - usual / distances[rows]
    return [Outlier(int(rows[i]), float(scores[i])) for i in np.argsort(-scores, kind="stable")]


def _distances(neighbours: Neighbours) -> NDArray[np.float64]:
    """Of each row the distance of the neighbour number ``NEIGHBOURS``, or of the last where there are fewer."""
    lengths = neighbours.lengths
    rows = neighbours.rows.reshape(len(lengths), -1)
    cosines = neighbours.similarities.reshape(len(lengths), -1).astype(np.float64)
    own, others = lengths[:, None].astype(np.float64), lengths[rows].astype(np.float64)
    with np.errstate(invalid="ignore"):
        squares = np.where(rows < 0, np.inf, own**2 + others**2 - 2 * own * others * cosines)
    ranked = np.sqrt(np.maximum(np.sort(squares, axis=1), 0))
    last = np.minimum(NEIGHBOURS, (rows >= 0).sum(axis=1)) - 1
    return np.asarray(np.take_along_axis(ranked, np.maximum(last, 0)[:, None], axis=1)[:, 0])
