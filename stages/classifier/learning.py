"""What the ways to train heads have in common: rules, schedules, scores, and how a learner is asked."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.common.settings.params import Train


class Losses(NamedTuple):
    """Of each head: the mean loss, and the top-1 accuracy. float64 (heads,)."""

    loss: NDArray[np.float64]
    top1: NDArray[np.float64]


class Learner(Protocol):
    """Heads that learn from the same samples, each by its own rule; they are numbered from 0."""

    def learn(self, order: NDArray[np.int64]) -> Losses:
        """An epoch: learns from every row once, in ``order``; returns how the heads did on the way, with dropout."""

    def scores(self) -> Losses:
        """How the heads do on the validation samples, without dropout."""

    def keep(self, heads: Sequence[int]) -> None:
        """Goes on with ``heads`` alone, which are from then on numbered anew."""

    def values(self, head: int) -> Any:
        """A copy of what a head has learnt."""


def factors(settings: Train, samples: int) -> Callable[[int], float]:
    """What the learning rate is multiplied with in the step of a number, from 0, by ``settings.schedule``.

    cosine: from 1 to 0 in the course of all epochs (Loshchilov and Hutter 2017, without restarts).
    """
    steps = settings.epochs * -(-samples // settings.batch_size)
    if settings.schedule == "constant":
        return lambda step: 1.0
    return lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))


def pieces(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """``rows`` in pieces of ``size``, the last as long as what is left."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def softmax(z: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Turns logits (rows, heads, classes) into probabilities, in place; returns the cross-entropy of each row and
    head, in nats, and whether the row's class is the likeliest, both (rows, heads).
    """
    right = z.argmax(axis=2) == labels[:, None]
    z -= z.max(axis=2, keepdims=True)
    own = z[np.arange(len(z)), :, labels]
    np.exp(z, out=z)
    total = z.sum(axis=2, keepdims=True)
    z /= total
    return np.log(total[:, :, 0]) - own, right
