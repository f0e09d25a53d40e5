"""Images that are unlike those of their class and of all others: by Mahalanobis distance (Lee et al. 2018)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.classifier.scores import Labels
from stages.features.stored.records import Features
from stages.findings import folds
from stages.findings.components import components
from stages.findings.gathered import taken
from stages.findings.neighbours import BLOCK, SAMPLE, Space, blocks, coordinates

# Distances are those of so many principal components: what tells the kinds of images apart, and not the detail of each.
COMPONENTS = 20
# How much of the covariance is that of a ball: few rows know the small variances badly (Ledoit and Wolf 2004).
SHRINKAGE = 0.3
# How far out: so many deviations beyond the median, robustly measured (see docs/audit.md).
FAR = 4.5
# The median absolute deviation of a normal distribution is that much of its standard deviation.
NORMAL = 0.6745

Points = NDArray[np.float32]  # (n, COMPONENTS)


class Outlier(NamedTuple):
    """score: from 0 to 1, how much of the distance of the image of a ``row`` is beyond what is usual."""

    row: int
    score: float


class Distances(NamedTuple):
    """Of each row (n,): to the mean of its own class, and to that of the nearest one.

    Of a class of which no other row is known the former is the latter too: a single image is not odd for that.
    """

    own: NDArray[np.float64]
    nearest: NDArray[np.float64]


def outliers(subsets: Sequence[Features], labels: Labels, classes: int) -> list[Outlier]:
    """The rows that lie far from their class, and not near another one either; the farthest first."""
    # Copies are dealt to folds like others: all of a small class in one fold, the class would be known too badly.
    distances = _distances(_points(subsets), labels, folds.deal(labels, np.arange(len(labels))), classes)
    usual = float(np.median(distances.own))
    deviation = float(np.median(abs(distances.own - usual))) / NORMAL
    # Nearer to another class than images are to theirs, it is one of that class under a wrong label.
    far = (distances.own > usual + FAR * deviation) & (distances.nearest > np.median(distances.nearest))
    # Where all are as far as the others but for rounding, none is an outlier.
    rows = np.flatnonzero(far) if deviation > 1e-6 * usual else np.empty(0, np.int64)
    scores = 1 - usual / distances.own[rows]
    return [Outlier(int(rows[i]), float(scores[i])) for i in np.argsort(-scores, kind="stable")]


def _points(subsets: Sequence[Features]) -> Points:
    count = sum(map(len, subsets))
    sample = taken(subsets, np.arange(0, count, -(-count // SAMPLE))).astype(np.float32)
    mean = sample.mean(axis=0)
    within = Space(mean, components(sample - mean, COMPONENTS))
    return np.concatenate([coordinates(block, within) for subset in subsets for block in blocks(subset)])


def _distances(points: Points, labels: Labels, fold: NDArray[np.int64], classes: int) -> Distances:
    """By the means and the covariance of the other folds: an outlier has no part in what it is judged by."""
    found = Distances(np.zeros(len(points)), np.zeros(len(points)))
    for number in np.unique(fold):
        learnt, judged = fold != number, np.flatnonzero(fold == number)
        if not learnt.any():
            continue
        means, whiten = _learn(points[learnt].astype(np.float64), labels[learnt], classes)
        known = np.bincount(labels[learnt], minlength=classes) > 0
        centres = means @ whiten
        for start in range(0, len(judged), BLOCK):
            rows = judged[start : start + BLOCK]
            own = points[rows] @ whiten
            squares = (own**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * own @ centres.T
            to_each = np.where(known, np.sqrt(np.maximum(squares, 0)), np.inf)
            to_own = to_each[np.arange(len(rows)), labels[rows]]
            found.nearest[rows] = to_each.min(axis=1)
            found.own[rows] = np.where(known[labels[rows]], to_own, found.nearest[rows])
    return found


def _learn(
    points: NDArray[np.float64], labels: Labels, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of each class (classes, dims), 0 of one without rows; what makes distances Mahalanobis's (dims, dims).

    The covariance is that of all classes together, each about its own mean.
    """
    counts = np.bincount(labels, minlength=classes)[:, None]
    sums = np.stack([np.bincount(labels, column, classes) for column in points.T], axis=1)
    means = sums / np.maximum(counts, 1)
    within = points - means[labels]
    covariance = within.T @ within / len(points)
    ball = np.trace(covariance) / len(covariance) or 1.0
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * ball * np.eye(len(covariance))
    return means, np.linalg.inv(np.linalg.cholesky(covariance)).T
