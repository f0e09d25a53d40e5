"""train: the head, on stored features; the epoch with the best validation accuracy is kept."""

import time

import numpy as np
from dvclive import Live

from stages.backend import devices
from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.scores import score
from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import read_json, write_json
from stages.common.layout import CURVES, METRICS
from stages.features import records

# MXNet's default for its accelerated gradient is no momentum, which is nothing but sgd.
OPTIONS = {"nag": {"momentum": 0.9}}
# Rows that go through the frozen layers together: they do not learn, so they need not wait for the batch before,
# and a large matrix product is faster than several small ones.
BLOCK = 1024


def main():
    given = params.load()
    about = read_json(records.ABOUT)
    about["trainable"] = given.train.trainable
    train, valid = records.read("train"), records.read("valid")
    # On the CPU one network with all cores, on GPUs one each.
    names = devices.resolve(given.runtime.devices, "auto")
    contexts = [devices.context(name) for name in names if name == names[0] or name.startswith("gpu")]
    network = head.build(
        about["backbone"], about["cut"], len(about["classes"]), given.train.dropout, given.train.trainable, contexts
    )
    with Live(str(CURVES), save_dvc_exp=False, dvcyaml=None, report=None) as live:
        best, seconds = fit(network, train, valid, given.train, live.log_metric, live.next_step)
    images = {"train": len(train[1]), "valid": len(valid[1])}
    head.save(network, {**about, "train": given.train.model_dump(), "images": images})

    metrics = {"best_epoch": best, "epochs": given.train.epochs, "seconds_per_epoch": round(float(np.mean(seconds)), 4)}
    for name, (features, labels) in {"train": train, "valid": valid}.items():
        scores = score(network.blocks(features), labels)
        metrics.update({f"{name}_{key}": round(value, 6) for key, value in scores.items()})
    write_json(METRICS / "train.json", metrics)
    print("best epoch {best_epoch} of {epochs}: top-1 {train_top1:.4f} train, {valid_top1:.4f} valid".format(**metrics))


def fit(network, train, valid, settings, log, next_step):
    """Trains ``network.trained`` on ``train``; leaves it as it was after the epoch best on ``valid``.

    train, valid: (features (n, dim) of any float dtype, labels (n,) int64). settings: the params' section ``train``.
    log(name, value) is called for every curve, next_step() after every epoch. Returns the number of the best epoch
    (from 1; the first of equals) and the seconds each epoch took. Raises InputError when the loss is not finite.
    """
    features, labels = train
    mx.random.seed(settings.seed)
    shuffle = np.random.default_rng(settings.seed)
    network.trained[-1].initialize(mx.init.Xavier(), ctx=network.contexts, force_reinit=True)
    # Lets the new layer take its size, and its start, from a row before any dropout draws random numbers.
    network.logits(features[:1])
    learning = network.trained.collect_params()
    options = OPTIONS.get(settings.optimizer, {})
    optimizer = mx.optimizer.create(settings.optimizer, learning_rate=settings.lr, wd=settings.weight_decay, **options)
    trainer = mx.gluon.Trainer(learning, optimizer)

    best, best_top1, kept, seconds = 0, -1.0, None, []
    for epoch in range(1, settings.epochs + 1):
        begun = time.perf_counter()
        order = shuffle.permutation(len(labels))
        with devices.memory_of(network.contexts[0], "train.batch_size"):
            loss, top1 = _epoch(network, trainer, features, labels, order, settings.batch_size)
        scores = score(network.blocks(valid[0]), valid[1])
        seconds.append(time.perf_counter() - begun)
        if not np.isfinite([loss, scores["loss"]]).all():
            raise InputError(f"the loss is not finite in epoch {epoch}: lower train.lr (it is {settings.lr})")
        log("train/loss", loss)
        log("train/top1", top1)
        log("valid/loss", scores["loss"])
        log("valid/top1", scores["top1"])
        log("seconds", seconds[-1])
        next_step()
        if scores["top1"] > best_top1:
            best, best_top1 = epoch, scores["top1"]
            kept = {name: value.data(network.contexts[0]).copy() for name, value in learning.items()}
    for name, value in learning.items():
        value.set_data(kept[name])
    return best, seconds


def _epoch(network, trainer, features, labels, order, batch_size):
    """One pass over the rows in ``order``: returns the mean loss and the top-1 accuracy, both with dropout."""
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    totals = [mx.nd.zeros(2, ctx=context) for context in network.contexts]
    block = batch_size * max(1, BLOCK // batch_size)
    for start in range(0, len(order), block):
        rows = order[start : start + block]
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        shares = [_share(batches, number, len(totals)) for number in range(len(totals))]
        gathered = [features[np.concatenate([mine for mine, _ in share])].astype(np.float32) for share in shares]
        # MXNet was computing the block before all the while; waiting here keeps memory at two blocks.
        mx.nd.waitall()
        parts = [
            _prepare(network, x, labels, share, context)
            for x, share, context in zip(gathered, shares, network.contexts)
        ]
        for batch, part in zip(batches, zip(*parts)):
            with mx.autograd.record():
                logits = [network.trained(x) for x, _, _ in part]
                losses = [cross_entropy(z, y, weight) for z, (_, y, weight) in zip(logits, part)]
            mx.autograd.backward(losses)
            trainer.step(len(batch))
            for total, z, loss, (_, y, weight) in zip(totals, logits, losses, part):
                right = (z.argmax(axis=1) == y) * weight.reshape(-1)
                total += mx.nd.concat(loss.sum(), right.sum(), dim=0)
    return tuple(float(value) / len(order) for value in sum(total.asnumpy() for total in totals))


def _share(batches, number, count):
    """Device ``number`` of ``count``'s part of every batch, as (rows, weights).

    All devices get as many rows; where a batch does not suffice its first row fills up, with weight 0.
    """
    parts = []
    for batch in batches:
        size = -(-len(batch) // count)
        mine = batch[number * size : (number + 1) * size]
        filled = np.concatenate([mine, np.repeat(batch[:1], size - len(mine))])
        parts.append((filled, (np.arange(size) < len(mine)).astype(np.float32)))
    return parts


def _prepare(network, x, labels, share, context):
    """A block's inputs on one device, batch by batch: (output of the frozen layers, labels, weights (n, 1))."""
    # With dropout as in training, but nothing is recorded: no gradient goes into these layers.
    with mx.autograd.train_mode():
        x = network.frozen(mx.nd.array(x, ctx=context))
    # One array each for the block: to make one for every batch takes as long as the batch itself.
    y = mx.nd.array(labels[np.concatenate([rows for rows, _ in share])], ctx=context)
    weights = mx.nd.array(np.concatenate([its for _, its in share])[:, None], ctx=context)
    ends = np.cumsum([len(rows) for rows, _ in share]).tolist()
    return [(x[start:end], y[start:end], weights[start:end]) for start, end in zip([0, *ends], ends)]


if __name__ == "__main__":
    run(main)
