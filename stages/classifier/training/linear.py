"""Heads that are one dense layer each, trained side by side on the CPU, as one wide matrix over the same batches.

In numpy: of a step's dozen small operations each costs a tenth of what a network's operator does, and a number for
each head (its learning rate, its weight decay) is one of each row. Arrays of weights are (heads · classes, width + 1),
the bias last; each optimizer's state is of the same size.
"""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from stages.classifier.head import Head, block_rows
from stages.classifier.learning import Losses, factors, pieces, softmax
from stages.classifier.model.grid import Rule
from stages.classifier.training.axes import Axes
from stages.classifier.training.samples import BLOCK, Inputs, Samples, axes
from stages.classifier.updates import STATES, Array, correction, update
from stages.common.settings.params import Train

# Weights whose gradient there is at a time, so that it takes little memory beside them.
GRADIENT = 2**19


class Linear:
    """Heads of which the last layer learns, by ``rules``, one each, from zeros, and along principal axes if it can.

    A :class:`Learner`. Values are (classes, width + 1), the bias last.
    """

    @staticmethod
    def start(head: Head, given: Samples, seed: int) -> Optional[Axes]:
        """The axes of all samples, the validation samples too: a refit learns from these."""
        return axes(head, given)

    @staticmethod
    def place(head: Head, values: Array) -> None:
        """Makes ``values`` those of the last layer of ``head``."""
        head.renew(values)

    def __init__(
        self, head: Head, start: Optional[Axes], rules: Sequence[Rule], train: Samples, valid: Samples, settings: Train
    ) -> None:
        self._classes, self._train, self._valid = head.classes, train, valid
        self._axes = start
        self._inputs = Inputs(head, train, training=True, axes=self._axes)
        self._valid_inputs = Inputs(head, valid, training=False, axes=self._axes)
        self._optimizer, self._batch_size = settings.optimizer, settings.batch_size
        self._update = update(settings.optimizer)
        self._factor = factors(settings, len(train.labels))
        self._weights = np.zeros((len(rules) * head.classes, self._inputs.width + 1), np.float32)
        self._state = [np.zeros_like(self._weights) for _ in range(STATES[settings.optimizer])]
        self._rate, self._decay = (np.repeat(np.array(values, np.float32), self._classes) for values in zip(*rules))
        self._step = 0
        self._arrange()

    def _arrange(self) -> None:
        """The blocks of rows whose gradient there is at a time, as views."""
        count = max(1, GRADIENT // self._weights.shape[1])
        starts = range(0, len(self._weights), count)
        self._blocks = [
            (
                slice(start, start + count),
                self._weights[start : start + count],
                tuple(array[start : start + count] for array in self._state),
            )
            for start in starts
        ]
        self._gradient = np.empty((min(count, len(self._weights)), self._weights.shape[1]), np.float32)

    @property
    def _heads(self) -> int:
        return len(self._weights) // self._classes

    def keep(self, heads: Sequence[int]) -> None:
        """See :class:`Learner`."""
        rows = (np.array(heads)[:, None] * self._classes + np.arange(self._classes)).ravel()
        self._weights, self._rate, self._decay = self._weights[rows], self._rate[rows], self._decay[rows]
        self._state = [array[rows] for array in self._state]
        self._arrange()

    def values(self, head: int) -> Array:
        """See :class:`Learner`."""
        own = self._weights[head * self._classes : (head + 1) * self._classes]
        return self._axes.back(own) if self._axes else own.copy()

    def learn(self, order: NDArray[np.int64]) -> Losses:
        """See :class:`Learner`."""
        samples = self._train
        size = self._batch_size
        blocks = pieces(order, size * max(1, BLOCK // size))
        loss, right = np.zeros(self._heads), np.zeros(self._heads)
        for block, x in zip(blocks, self._inputs.blocks(blocks)):
            for start in range(0, len(block), size):
                rows = block[start : start + size]
                batch_loss, batch_right = self._learn(
                    x[start : start + size], samples.labels[rows], samples.weights[rows]
                )
                loss += batch_loss
                right += batch_right
        return Losses(loss / samples.weights.sum(dtype=np.float64), right / len(order))

    def _learn(self, x: Array, labels: NDArray[np.int64], weights: Array) -> tuple[Array, NDArray[np.int64]]:
        """A step on a batch; returns the sums of the losses and of the rows that were right."""
        factor = np.float32(self._factor(self._step))
        self._step += 1
        z = self._logits(x)
        loss, right = softmax(z, labels)
        z[np.arange(len(x)), :, labels] -= 1
        z *= (weights / len(x))[:, None, None]
        slopes = z.reshape(len(x), -1)
        rate = self._rate * (factor * np.float32(correction(self._optimizer, self._step)))
        for rows, own, state in self._blocks:
            gradient = self._gradient[: len(own)]
            np.matmul(slopes[:, rows].T, x, out=gradient)
            self._update(own, gradient, state, rate[rows], self._decay[rows])
        return weights @ loss, right.sum(axis=0)

    def scores(self) -> Losses:
        """See :class:`Learner`."""
        samples = self._valid
        loss, right = np.zeros(self._heads), np.zeros(self._heads)
        blocks = pieces(np.arange(len(samples.labels)), block_rows(self._heads * self._classes))
        for rows, x in zip(blocks, self._valid_inputs.blocks(blocks)):
            block_loss, block_right = softmax(self._logits(x), samples.labels[rows])
            loss += samples.weights[rows].astype(np.float64) @ block_loss
            right += block_right.sum(axis=0)
        return Losses(loss / samples.weights.sum(dtype=np.float64), right / len(samples.labels))

    def _logits(self, x: Array) -> Array:
        """(rows, heads, classes)."""
        return np.matmul(x, self._weights.T).reshape(len(x), self._heads, self._classes)
