"""Training of a head on stored features; the epoch with the best validation accuracy is kept."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.backend import devices
from stages.backend.mx import mx
from stages.classifier.head import Features, Head
from stages.classifier.scores import Labels, score
from stages.common import params
from stages.common.errors import InputError

# MXNet's default for its accelerated gradient is no momentum, which is nothing but sgd.
OPTIONS = {"nag": {"momentum": 0.9}}
# Rows that go through the frozen layers together: they do not learn, so they need not wait for the batch before,
# and a large matrix product is faster than several small ones.
BLOCK = 1024


class EpochLog(Protocol):
    """Where the curves go; what DVCLive's ``Live`` has."""

    def log_metric(self, name: str, val: float) -> None: ...

    def next_step(self) -> None: ...


class Fit(NamedTuple):
    """best_epoch: the number, from 1, of the epoch that was kept. seconds: what each epoch took."""

    best_epoch: int
    seconds: list[float]


class Part(NamedTuple):
    """What one device takes of the batches of a block, batch after batch.

    rows: (n,), numbers of rows. weights: (n,) float32, 1 for each row of a batch and 0 for one that only fills up.
    ends: where in both each batch ends.
    """

    rows: NDArray[np.int64]
    weights: NDArray[np.float32]
    ends: list[int]


class Share(NamedTuple):
    """The rows of one batch that one device takes, as arrays on that device.

    x: (n, width), what the frozen layers make of the features. labels: (n,). weights: (n, 1), as in :class:`Part`.
    """

    x: Any
    labels: Any
    weights: Any


def fit(
    head: Head, train: tuple[Features, Labels], valid: tuple[Features, Labels], settings: params.Train, log: EpochLog
) -> Fit:
    """Trains ``head.trained`` on ``train``; leaves it as it was after the epoch best on ``valid``.

    Of equals the first is the best. Raises InputError when the loss is not finite.
    """
    features, labels = train
    mx.random.seed(settings.seed)
    shuffle = np.random.default_rng(settings.seed)
    head.trained[-1].initialize(mx.init.Xavier(), ctx=head.contexts, force_reinit=True)
    # Lets the new layer take its size, and its start, from a row before any dropout draws random numbers.
    head.logits(features[:1])
    learning = head.trained.collect_params()
    options = OPTIONS.get(settings.optimizer, {})
    optimizer = mx.optimizer.create(settings.optimizer, learning_rate=settings.lr, wd=settings.weight_decay, **options)
    trainer = mx.gluon.Trainer(learning, optimizer)

    best_epoch, best_top1, seconds = 0, -1.0, []
    best: dict[str, Any] = {}
    for epoch in range(1, settings.epochs + 1):
        begun = time.perf_counter()
        order = shuffle.permutation(len(labels))
        with devices.memory_of(head.contexts[0], "train.batch_size"):
            loss, top1 = _train_epoch(head, trainer, features, labels, order, settings.batch_size)
        scores = score(head.blocks(valid[0]), valid[1])
        seconds.append(time.perf_counter() - begun)
        if not np.isfinite([loss, scores.loss]).all():
            raise InputError(f"the loss is not finite in epoch {epoch}: lower train.lr (it is {settings.lr})")
        log.log_metric("train/loss", loss)
        log.log_metric("train/top1", top1)
        log.log_metric("valid/loss", scores.loss)
        log.log_metric("valid/top1", scores.top1)
        log.log_metric("seconds", seconds[-1])
        log.next_step()
        if scores.top1 > best_top1:
            best_epoch, best_top1 = epoch, scores.top1
            best = {name: parameter.data(head.contexts[0]).copy() for name, parameter in learning.items()}
    for name, parameter in learning.items():
        parameter.set_data(best[name])
    return Fit(best_epoch, seconds)


def _train_epoch(
    head: Head, trainer: Any, features: Features, labels: Labels, order: NDArray[np.int64], batch_size: int
) -> tuple[float, float]:
    """Trains on every row once, in ``order``; returns the mean loss and the top-1 accuracy, both with dropout."""
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    # Of each device: the sum of the losses, and how many rows were right.
    totals = [mx.nd.zeros(2, ctx=context) for context in head.contexts]
    block_size = batch_size * max(1, BLOCK // batch_size)
    for block in _pieces(order, block_size):
        batches = _pieces(block, batch_size)
        for batch, shares in zip(batches, _shares(head, features, labels, batches)):
            with mx.autograd.record():
                logits = [head.trained(share.x) for share in shares]
                losses = [cross_entropy(z, share.labels, share.weights) for z, share in zip(logits, shares)]
            mx.autograd.backward(losses)
            trainer.step(len(batch))
            for total, z, loss, share in zip(totals, logits, losses, shares):
                right = (z.argmax(axis=1) == share.labels) * share.weights.reshape(-1)
                total += mx.nd.concat(loss.sum(), right.sum(), dim=0)
    loss_sum, right_count = sum(total.asnumpy() for total in totals)
    return float(loss_sum) / len(order), float(right_count) / len(order)


def _pieces(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """``rows`` in pieces of ``size``, the last as long as what is left."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _shares(
    head: Head, features: Features, labels: Labels, batches: Sequence[NDArray[np.int64]]
) -> Iterator[tuple[Share, ...]]:
    """For each of ``batches`` the shares of all devices. They are a block: the frozen layers take it in one piece."""
    parts = [_part(batches, device, len(head.contexts)) for device in range(len(head.contexts))]
    gathered = [features[part.rows].astype(np.float32) for part in parts]
    # MXNet was computing the block before all the while; waiting here keeps memory at two blocks.
    mx.nd.waitall()
    by_device = [
        _on_device(head, x, labels[part.rows], part, context)
        for x, part, context in zip(gathered, parts, head.contexts)
    ]
    return zip(*by_device)


def _part(batches: Sequence[NDArray[np.int64]], device: int, count: int) -> Part:
    """What device number ``device`` of ``count`` takes.

    All devices take as many rows of a batch; where it does not suffice its first row fills up, with weight 0.
    """
    rows, weights = [], []
    sizes = [-(-len(batch) // count) for batch in batches]
    for batch, size in zip(batches, sizes):
        own = batch[device * size : (device + 1) * size]
        rows += [own, np.repeat(batch[:1], size - len(own))]
        weights += [1.0] * len(own) + [0.0] * (size - len(own))
    return Part(np.concatenate(rows), np.array(weights, np.float32), np.cumsum(sizes).tolist())


def _on_device(head: Head, x: NDArray[np.float32], labels: Labels, part: Part, context: Any) -> list[Share]:
    """A device's share of each batch; x, labels: the features and the labels of the part's rows."""
    # With dropout as in training, but nothing is recorded: no gradient goes into these layers.
    with mx.autograd.train_mode():
        inputs = head.frozen(mx.nd.array(x, ctx=context))
    # One array each for the block: to make one for every batch takes as long as the batch itself.
    y = mx.nd.array(labels, ctx=context)
    weights = mx.nd.array(part.weights[:, None], ctx=context)
    starts = [0, *part.ends]
    return [Share(inputs[i:j], y[i:j], weights[i:j]) for i, j in zip(starts, part.ends)]
