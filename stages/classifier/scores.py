"""How good logits are."""

import numpy as np


def score(blocks, labels):
    """Scores logits against labels (n,) int: a dict of floats.

    blocks: iterable of logits (rows, classes), one block of rows after the other, n in all.

    loss: mean cross-entropy, in nats. top1, top5: share of rows whose class is the likeliest, or among the five
    likeliest (all there are, with fewer classes).
    """
    totals, start = np.zeros(3), 0
    for logits in blocks:
        logits = logits.astype(np.float64)
        own = logits[np.arange(len(logits)), labels[start : start + len(logits)]]
        largest = logits.max(axis=1)
        with np.errstate(invalid="ignore"):
            log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        # Rank among the logits; a tie counts against the row, and so does NaN.
        rank = (~(logits < own[:, None])).sum(axis=1)
        totals += (log_sum - own).sum(), (rank <= 1).sum(), (rank <= 5).sum()
        start += len(logits)
    return dict(zip(("loss", "top1", "top5"), (totals / len(labels)).tolist()))


def softmax(logits):
    """Logits (n, classes) as probabilities: float64 of the same shape, each row adds up to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def per_class_accuracy(predicted, labels, classes):
    """Top-1 accuracy of each class: float64 (classes,), NaN for a class without rows."""
    right = np.bincount(labels[predicted == labels], minlength=classes)
    with np.errstate(invalid="ignore"):
        return right / np.bincount(labels, minlength=classes)
