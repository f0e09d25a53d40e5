"""Labelled features that a head learns from or is measured on, and what its last layer gets of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.backend.mx import mx
from stages.classifier.head import Head
from stages.classifier.scores import Labels
from stages.classifier.training.axes import MOST, Axes, principal
from stages.features.stored.records import Features

# Rows that go through the frozen layers together: they do not learn, so they need not wait for the batch before,
# and a large matrix product is faster than several small ones.
BLOCK = 512
# Bytes up to which what does not change between epochs is kept, instead of being computed anew in each.
SMALL = 64 * 2**20


class Samples(NamedTuple):
    """parts: one or several arrays of features, one behind the other, none of which is copied.

    labels: (n,) of all of them. weights: float32 (n,), how much each counts; 1 on the mean.
    """

    parts: Sequence[Features]
    labels: Labels
    weights: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features of ``rows``: float32 (len(rows), dim)."""
        if len(self.parts) == 1:
            return self.parts[0][rows].astype(np.float32)
        taken = np.empty((len(rows), self.parts[0].shape[1]), np.float32)
        start = 0
        for part in self.parts:
            here = (rows >= start) & (rows < start + len(part))
            taken[here] = part[rows[here] - start]
            start += len(part)
        return taken


def samples(*subsets: tuple[Features, Labels], weights: NDArray[np.float64]) -> Samples:
    """The ``subsets`` (features, labels) as one; weights: of each class (see :func:`class_weights`)."""
    labels = np.concatenate([labels for _, labels in subsets])
    return Samples([features for features, _ in subsets], labels, weights[labels].astype(np.float32))


def class_weights(kind: str, labels: Labels, classes: int) -> NDArray[np.float64]:
    """How much a row of each class counts: (classes,); 1 on the mean of ``labels``.

    kind: "none", all the same; "balanced", all classes together the same.
    """
    if kind == "none":
        return np.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    present = (counts > 0).sum()
    return np.asarray(len(labels) / (present * np.maximum(counts, 1)))


def axes(head: Head, given: Samples) -> Optional[Axes]:
    """The principal axes of what the frozen layers make of ``given``, without dropout; None where that is large."""
    count, width = len(given.labels), head.width(given.parts[0])
    if not small(count, width) or min(count, width) > MOST:
        return None
    (x,) = Inputs(head, given, training=False).blocks([np.arange(count)])
    return principal(x[:, :-1], given.weights)


def small(count: int, width: int) -> bool:
    """Whether so many inputs of that width are kept from epoch to epoch."""
    return count * (width + 1) * 4 <= SMALL


class Inputs:
    """What the last layer gets of ``given``: float32 (rows, width + 1), what the frozen layers make of the features,
    along ``axes`` where there are any, and a column of ones, which the bias is multiplied with.

    training: with dropout. What is the same in each epoch is computed once, unless it is large.
    """

    def __init__(self, head: Head, given: Samples, training: bool, axes: Optional[Axes] = None) -> None:
        self._head, self._given, self._training, self._axes = head, given, training, axes
        self.width = axes.turn.shape[1] if axes else head.width(given.parts[0])
        random, count = training and head.random, len(given.labels)
        self._plain = head.plain and not random
        self._same = not random and small(count, self.width)
        self._kept: Optional[NDArray[np.float32]] = None

    def blocks(self, pieces: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        """The inputs of each of ``pieces``, which are numbers of rows."""
        if self._same and self._kept is None:
            self._kept = np.empty((len(self._given.labels), self.width + 1), np.float32)
            for start in range(0, len(self._kept), BLOCK):
                rows = np.arange(start, min(start + BLOCK, len(self._kept)))
                self._kept[rows] = self._compute(rows)
        for rows in pieces:
            yield self._compute(rows) if self._kept is None else self._kept[rows]

    def _compute(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        inputs = np.ones((len(rows), self.width + 1), np.float32)
        x = self._given.take(rows)
        if not self._plain:
            x = self._through_frozen(x)
        inputs[:, :-1] = self._axes.along(x) if self._axes else x
        return inputs

    def _through_frozen(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        shares = np.array_split(features, len(self._head.contexts))
        mode = mx.autograd.train_mode() if self._training else mx.autograd.predict_mode()
        with mode:
            outputs = [
                self._head.frozen(mx.nd.array(share, ctx=context))
                for share, context in zip(shares, self._head.contexts)
                if len(share)
            ]
            return np.concatenate([output.asnumpy() for output in outputs])
