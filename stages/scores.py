"""How good logits are."""

import numpy as np


def score(logits, labels):
    """Scores logits (n, classes) against labels (n,) int: a dict of floats.

    loss: mean cross-entropy, in nats. top1, top5: share of rows whose class is the likeliest, or among the five
    likeliest (all there are, with fewer classes).
    """
    logits = logits.astype(np.float64)
    own = logits[np.arange(len(labels)), labels]
    largest = logits.max(axis=1)
    with np.errstate(invalid="ignore"):
        log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    # Rank among the logits; a tie counts against the row, and so does NaN.
    rank = (~(logits < own[:, None])).sum(axis=1)
    return {
        "loss": float((log_sum - own).mean()),
        "top1": float((rank <= 1).mean()),
        "top5": float((rank <= 5).mean()),
    }


def softmax(logits):
    """Logits (n, classes) as probabilities: float64 of the same shape, each row adds up to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def per_class_accuracy(predicted, labels, classes):
    """Top-1 accuracy of each class: float64 (classes,), NaN for a class without rows."""
    right = np.bincount(labels[predicted == labels], minlength=classes)
    with np.errstate(invalid="ignore"):
        return right / np.bincount(labels, minlength=classes)
