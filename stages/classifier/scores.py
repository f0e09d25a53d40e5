"""How good logits are."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.common.disk.documents import Document

Labels = NDArray[np.int64]  # (n,)
Logits = NDArray[np.float32]  # (n, classes)

# Of scores in files.
DIGITS = 6


class Scores(NamedTuple):
    """loss: mean cross-entropy, in nats. top1, top5: share of rows whose class is the likeliest, or among the five
    likeliest (all there are, with fewer classes).
    """

    loss: float
    top1: float
    top5: float


class Kept(Document):
    """metrics/curves/kept.json: the scores, without dropout, of what was chosen: a head after an epoch of ``epochs``.

    best_epoch: the number of that epoch, from 1.
    """

    best_epoch: int
    epochs: int
    train_loss: float
    train_top1: float
    train_top5: float
    valid_loss: float
    valid_top1: float
    valid_top5: float

    @classmethod
    def of(cls, best_epoch: int, epochs: int, train: Scores, valid: Scores) -> "Kept":
        """From the scores of both subsets."""
        return cls(best_epoch=best_epoch, epochs=epochs, **_rounded("train_", train), **_rounded("valid_", valid))


class TrainMetrics(Document):
    """metrics/train.json: what was chosen, and of :class:`Kept` what an experiment is chosen by.

    refit: how many images it was trained on anew, by the same lr and weight_decay for as many epochs; 0 without that.
    """

    valid_top1: float
    valid_loss: float
    best_epoch: int
    lr: float
    weight_decay: float
    refit: int

    @classmethod
    def of(cls, kept: Kept, lr: float, weight_decay: float, refit: int) -> "TrainMetrics":
        """The part of ``kept`` that is here, and the rest."""
        return cls(
            valid_top1=kept.valid_top1,
            valid_loss=kept.valid_loss,
            best_epoch=kept.best_epoch,
            lr=lr,
            weight_decay=weight_decay,
            refit=refit,
        )


class TestMetrics(Document):
    """metrics/test.json; mean_class_accuracy counts every class the same that has images.

    ece: expected calibration error (see ``reliability``), of the probabilities.
    """

    top1: float
    top5: float
    mean_class_accuracy: float
    loss: float
    ece: float
    images: int

    @classmethod
    def of(cls, scores: Scores, by_class: NDArray[np.float64], ece: float, images: int) -> "TestMetrics":
        """by_class: as :func:`per_class_accuracy` returns it."""
        mean = round(float(np.nanmean(by_class)), DIGITS)
        return cls(images=images, **_rounded("", scores), mean_class_accuracy=mean, ece=round(ece, DIGITS))


def _rounded(prefix: str, scores: Scores) -> dict[str, float]:
    return {prefix + name: round(value, DIGITS) for name, value in scores._asdict().items()}


def score(blocks: Iterable[NDArray[Any]], labels: Labels, weights: Optional[NDArray[np.float32]] = None) -> Scores:
    """Scores logits against labels.

    blocks: logits (rows, classes), one block of rows after the other, as many rows in all as labels.
    weights: (n,), how much each row counts in the loss; by default all the same.
    """
    weights = np.ones(len(labels), np.float32) if weights is None else weights
    totals, start = np.zeros(3), 0
    for logits in blocks:
        logits = logits.astype(np.float64)
        own = logits[np.arange(len(logits)), labels[start : start + len(logits)]]
        largest = logits.max(axis=1)
        with np.errstate(invalid="ignore"):
            log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        # Rank among the logits; a tie counts against the row, and so does NaN.
        rank = (~(logits < own[:, None])).sum(axis=1)
        losses = (log_sum - own) * weights[start : start + len(logits)]
        totals += losses.sum(), (rank <= 1).sum(), (rank <= 5).sum()
        start += len(logits)
    loss, top1, top5 = (totals / (weights.sum(dtype=np.float64), len(labels), len(labels))).tolist()
    return Scores(loss, top1, top5)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Logits (n, classes) as probabilities, each row of which adds up to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def per_class_accuracy(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.float64]:
    """Top-1 accuracy of each class: (classes,), NaN for a class without rows."""
    right = np.bincount(labels[predicted == labels], minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(right / np.bincount(labels, minlength=classes))
