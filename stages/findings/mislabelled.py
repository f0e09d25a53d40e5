"""Images that are probably of another class than their label says: confident learning (Northcutt et al. 2021)."""

from typing import NamedTuple

import numpy as np

from stages.classifier.scores import Labels
from stages.findings.folds import Probabilities

# Of what share of the images the heads must know the class to be asked about the labels: of classes that features do
# not tell apart, they would doubt nearly all.
JUDGES = 0.5


class Doubt(NamedTuple):
    """The image of a ``row`` looks like one of the class ``suggested``; score: from 0 to 1, how much more so."""

    row: int
    suggested: int
    score: float


def doubts(probabilities: Probabilities, labels: Labels) -> list[Doubt]:
    """The rows that lie off the diagonal of the confident joint, the most doubtful first.

    probabilities: out of fold. A class counts for a row where its probability is at least what it is on the mean for
    the images of that class; of several the likeliest counts (equation 2 of https://arxiv.org/abs/1911.00068).
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    # A class without images is never counted.
    usual = np.where(counts > 0, np.bincount(labels, own, classes) / np.maximum(counts, 1), np.inf)
    counted = np.where(probabilities >= usual, probabilities, -1)
    looks_like = counted.argmax(axis=1)
    best = probabilities[np.arange(len(labels)), looks_like]
    rows = np.flatnonzero((counted.max(axis=1) >= 0) & (looks_like != labels) & (best > own))
    scores = (best - own)[rows]
    return [Doubt(int(rows[i]), int(looks_like[rows[i]]), float(scores[i])) for i in np.argsort(-scores, kind="stable")]


def known(probabilities: Probabilities, labels: Labels) -> float:
    """The share of the rows whose class is the likeliest."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def typical(probabilities: Probabilities, labels: Labels) -> dict[int, int]:
    """{class: the row of it that is surest}."""
    own = probabilities[np.arange(len(labels)), labels]
    order = np.lexsort((-own, labels))
    names, first = np.unique(labels[order], return_index=True)
    return dict(zip(names.tolist(), order[first].tolist()))
