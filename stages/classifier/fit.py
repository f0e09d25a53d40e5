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


class Curves(Protocol):
    """Where the curves are drawn; what DVCLive's ``Live`` has."""

    def log_metric(self, name: str, val: float) -> None: ...

    def next_step(self) -> None: ...


class Fit(NamedTuple):
    """best_epoch: the number, from 1, of the epoch that was kept. seconds: what each epoch took."""

    best_epoch: int
    seconds: list[float]


class Share(NamedTuple):
    """The rows of one batch that one device takes, as arrays on that device.

    x: (n, width), what the frozen layers make of the features. labels: (n,). weights: (n, 1), 1 for each row of the
    batch and 0 for one that is there for the shape.
    """

    x: Any
    labels: Any
    weights: Any


def fit(
    head: Head, train: tuple[Features, Labels], valid: tuple[Features, Labels], settings: params.Train, curves: Curves
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
        curves.log_metric("train/loss", loss)
        curves.log_metric("train/top1", top1)
        curves.log_metric("valid/loss", scores.loss)
        curves.log_metric("valid/top1", scores.top1)
        curves.log_metric("seconds", seconds[-1])
        curves.next_step()
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
    """The shares of all devices in each of ``batches``; these are a block, the frozen layers take it in one piece."""
    count = len(head.contexts)
    dealt = [[_deal(batch, device, count) for batch in batches] for device in range(count)]
    gathered = [features[np.concatenate([rows for rows, _ in parts])].astype(np.float32) for parts in dealt]
    # MXNet was computing the block before all the while; waiting here keeps memory at two blocks.
    mx.nd.waitall()
    by_device = []
    for context, parts, x in zip(head.contexts, dealt, gathered):
        # With dropout as in training, but nothing is recorded: no gradient goes into these layers.
        with mx.autograd.train_mode():
            x = head.frozen(mx.nd.array(x, ctx=context))
        # One array each for the block: to make one for every batch takes as long as the batch itself.
        y = mx.nd.array(labels[np.concatenate([rows for rows, _ in parts])], ctx=context)
        weights = mx.nd.array(np.concatenate([its for _, its in parts])[:, None], ctx=context)
        ends = np.cumsum([len(rows) for rows, _ in parts]).tolist()
        by_device.append(
            [Share(x[start:end], y[start:end], weights[start:end]) for start, end in zip([0, *ends], ends)]
        )
    return zip(*by_device)


def _deal(batch: NDArray[np.int64], device: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows of ``batch`` for device number ``device`` of ``count``, and their weights.

    All devices get as many rows; where the batch does not suffice its first row fills up, with weight 0.
    """
    size = -(-len(batch) // count)
    own = batch[device * size : (device + 1) * size]
    rows = np.concatenate([own, np.repeat(batch[:1], size - len(own))])
    return rows, (np.arange(size) < len(own)).astype(np.float32)
