"""A head all of whose layers learn, by MXNet, on one or several devices. Each takes a share of every batch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.backend import devices
from stages.backend.mx import mx
from stages.classifier.head import Head, block_rows
from stages.classifier.learning import Losses, factors, pieces, softmax
from stages.classifier.model.grid import Rule
from stages.classifier.scores import Labels
from stages.classifier.training.samples import BLOCK, Samples
from stages.common.settings.params import Train

# MXNet's default for its accelerated gradient is no momentum, which is nothing but sgd.
OPTIONS = {"nag": {"momentum": 0.9}}
# {name of a parameter: what it is}
Values = Mapping[str, NDArray[np.float32]]


class Part(NamedTuple):
    """What one device takes of the batches of a block, batch after batch.

    rows: (n,), numbers of rows. counts: (n,) float32, 1 for each row of a batch and 0 for one that only fills up.
    ends: where in both each batch ends.
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.float32]
    ends: list[int]


class Share(NamedTuple):
    """The rows of one batch that one device takes, as arrays on that device.

    x: (n, dim), features. labels: (n,). weights: (n, 1). counts: (n,), as in :class:`Part`.
    """

    x: Any
    labels: Any
    weights: Any
    counts: Any


class Layers:
    """A head all of whose trained layers learn, by the only one of ``rules``.

    A :class:`Learner`.
    """

    @staticmethod
    def start(head: Head, given: Samples, seed: int) -> Values:
        """The values that the layers have, and random ones for the new layer."""
        head.renew(xavier(head.classes, int(head.trained[:-1](head.array(given.parts[0][:1])).shape[1]), seed))
        return _values(head)

    @staticmethod
    def place(head: Head, values: Values) -> None:
        """Makes ``values`` those of the trained layers of ``head``."""
        for name, parameter in head.trained.collect_params().items():
            parameter.set_data(mx.nd.array(values[name]))

    def __init__(
        self, head: Head, start: Values, rules: Sequence[Rule], train: Samples, valid: Samples, settings: Train
    ) -> None:
        (self._rule,) = rules
        self._head, self._train, self._valid, self._batch_size = head, train, valid, settings.batch_size
        self._factor = factors(settings, len(train.labels))
        self.place(head, start)
        options = OPTIONS.get(settings.optimizer, {})
        optimizer = mx.optimizer.create(
            settings.optimizer, learning_rate=self._rule.lr, wd=self._rule.weight_decay, **options
        )
        self._trainer = mx.gluon.Trainer(head.trained.collect_params(), optimizer)
        self._compiled = _compiled(head.trained)
        self._step = 0

    def learn(self, order: NDArray[np.int64]) -> Losses:
        """See :class:`Learner`."""
        # Of each device: the sum of the losses, and how many rows were right.
        totals = [mx.nd.zeros(2, ctx=context) for context in self._head.contexts]
        size = self._batch_size
        with devices.memory_of(self._head.contexts[0], "train.batch_size"):
            for block in pieces(order, size * max(1, BLOCK // size)):
                batches = pieces(block, size)
                for batch, shares in zip(batches, self._shares(batches)):
                    with mx.autograd.record():
                        found = [self._compiled(*share) for share in shares]
                    mx.autograd.backward([losses for losses, _ in found])
                    self._trainer.set_learning_rate(self._rule.lr * self._factor(self._step))
                    self._trainer.step(len(batch))
                    self._step += 1
                    for total, (_, sums) in zip(totals, found):
                        total += sums
            loss, right = sum(total.asnumpy() for total in totals)
        return Losses(
            np.array([loss / self._train.weights.sum(dtype=np.float64)]), np.array([right / len(order)], np.float64)
        )

    def scores(self) -> Losses:
        """See :class:`Learner`."""
        loss = right = 0.0
        for rows in pieces(np.arange(len(self._valid.labels)), block_rows(self._head.classes)):
            logits = self._head.logits(self._valid.take(rows))
            losses, hits = softmax(logits[:, None, :], self._valid.labels[rows])
            loss += float(self._valid.weights[rows].astype(np.float64) @ losses[:, 0])
            right += float(hits.sum())
        total = self._valid.weights.sum(dtype=np.float64)
        return Losses(np.array([loss / total]), np.array([right / len(self._valid.labels)]))

    def keep(self, heads: Sequence[int]) -> None:
        """See :class:`Learner`."""

    def values(self, head: int) -> Values:
        """See :class:`Learner`."""
        return _values(self._head)

    def _shares(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[tuple[Share, ...]]:
        """For each of ``batches`` the shares of all devices."""
        parts = [_part(batches, device, len(self._head.contexts)) for device in range(len(self._head.contexts))]
        gathered = [self._train.take(part.rows) for part in parts]
        # MXNet was computing the block before all the while; waiting here keeps memory at two blocks.
        mx.nd.waitall()
        by_device = [
            _on_device(x, self._train.labels[part.rows], self._train.weights[part.rows], part, context)
            for x, part, context in zip(gathered, parts, self._head.contexts)
        ]
        return zip(*by_device)


def _values(head: Head) -> Values:
    parameters = head.trained.collect_params()
    return {name: parameter.data(head.contexts[0]).asnumpy() for name, parameter in parameters.items()}


def _compiled(trained: Any) -> Any:
    """``trained`` with the loss behind it, as one graph: (x, labels, weights, counts) → (losses, their sum and how
    many rows were right).
    """
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()

    class WithLoss(mx.gluon.HybridBlock):  # type: ignore[misc]  # MXNet has no types
        def __init__(self) -> None:
            super().__init__()
            self.trained = trained

        def hybrid_forward(self, F: Any, x: Any, labels: Any, weights: Any, counts: Any) -> tuple[Any, Any]:
            logits = self.trained(x)
            losses = cross_entropy(logits, labels, weights)
            right = F.broadcast_equal(F.argmax(logits, axis=1), labels) * counts
            return losses, F.concat(F.sum(losses), F.sum(right), dim=0)

    block = WithLoss()
    block.hybridize(static_alloc=True)
    return block


def _part(batches: Sequence[NDArray[np.int64]], device: int, count: int) -> Part:
    """What device number ``device`` of ``count`` takes.

    All devices take as many rows of a batch; where it does not suffice its first row fills up, and does not count.
    """
    rows, counts = [], []
    sizes = [-(-len(batch) // count) for batch in batches]
    for batch, size in zip(batches, sizes):
        own = batch[device * size : (device + 1) * size]
        rows += [own, np.repeat(batch[:1], size - len(own))]
        counts += [1.0] * len(own) + [0.0] * (size - len(own))
    return Part(np.concatenate(rows), np.array(counts, np.float32), np.cumsum(sizes).tolist())


def _on_device(
    x: NDArray[np.float32], labels: Labels, weights: NDArray[np.float32], part: Part, context: Any
) -> list[Share]:
    """A device's share of each batch; x, labels, weights: of the part's rows."""
    # One array each for the block: to make one for every batch takes as long as the batch itself.
    arrays = x, labels, (weights * part.counts)[:, None], part.counts
    whole = [mx.nd.array(values, ctx=context) for values in arrays]
    starts = [0, *part.ends]
    return [Share(*(array[i:j] for array in whole)) for i, j in zip(starts, part.ends)]


def xavier(classes: int, width: int, seed: int) -> NDArray[np.float32]:
    """What the new layer starts with: (classes, width + 1), the bias, which is 0, last (Glorot and Bengio 2010)."""
    values = np.zeros((classes, width + 1), np.float32)
    drawn = np.random.default_rng(seed).random((classes, width), np.float32)
    np.multiply(drawn, np.float32(2), out=values[:, :-1])
    values[:, :-1] -= 1
    values[:, :-1] *= np.float32(math.sqrt(6 / (classes + width)))
    return values
