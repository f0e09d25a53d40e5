"""train: the head, on stored features; the epoch with the best validation accuracy is kept."""

import time

import numpy as np
from dvclive import Live

from stages import devices, head, params, records
from stages.errors import InputError
from stages.mx import mx
from stages.paths import METRICS, read_json, write_json
from stages.scores import score

# MXNet's default for its accelerated gradient is no momentum, which is nothing but sgd.
OPTIONS = {"nag": {"momentum": 0.9}}


def main():
    given = params.load()
    about = read_json(records.ABOUT)
    context = devices.context(devices.resolve(given.runtime.devices, "auto")[0])
    train, valid = (load(subset, context) for subset in ("train", "valid"))
    network = head.build(about["backbone"], about["cut"], len(about["classes"]), given.train.dropout, context)
    with Live(str(METRICS / "curves"), save_dvc_exp=False, dvcyaml=None, report=None) as live:
        best, seconds = fit(network, train, valid, given.train, live.log_metric, live.next_step)
    head.save(network, about)

    metrics = {"best_epoch": best, "epochs": given.train.epochs, "seconds_per_epoch": round(float(np.mean(seconds)), 4)}
    for name, (features, labels) in {"train": train, "valid": valid}.items():
        scores = score(network.logits(features), labels)
        metrics.update({f"{name}_{key}": round(value, 6) for key, value in scores.items()})
    write_json(METRICS / "train.json", metrics)
    print("best epoch {best_epoch} of {epochs}: top-1 {train_top1:.4f} train, {valid_top1:.4f} valid".format(**metrics))


def load(subset, context):
    """A subset's features, float32 NDArray (n, dim) on ``context``, and labels, int64 (n,) numpy."""
    features, labels = records.read(subset)
    return mx.nd.array(features, ctx=context, dtype=np.float32), labels


def fit(network, train, valid, settings, log, next_step):
    """Trains ``network.output`` on ``train``; leaves it as it was after the epoch best on ``valid``.

    train, valid: (features (n, dim) float32 NDArray, labels (n,) int64). settings: the params' section ``train``.
    log(name, value) is called for every curve, next_step() after every epoch. Returns the number of the best epoch
    (from 1; the first of equals) and the seconds each epoch took. Raises InputError when the loss is not finite.
    """
    features, labels = train
    context = features.ctx
    targets = mx.nd.array(labels, ctx=context)
    mx.random.seed(settings.seed)
    shuffle = np.random.default_rng(settings.seed)
    network.output.initialize(mx.init.Xavier(), ctx=context, force_reinit=True)
    options = OPTIONS.get(settings.optimizer, {})
    optimizer = mx.optimizer.create(settings.optimizer, learning_rate=settings.lr, wd=settings.weight_decay, **options)
    trainer = mx.gluon.Trainer(network.output.collect_params(), optimizer)
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()

    best, best_top1, kept, seconds = 0, -1.0, None, []
    for epoch in range(1, settings.epochs + 1):
        begun = time.perf_counter()
        order = mx.nd.array(shuffle.permutation(len(labels)), ctx=context, dtype=np.int32)
        loss_sum, right = mx.nd.zeros(1, ctx=context), mx.nd.zeros(1, ctx=context)
        for start in range(0, len(labels), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            y = targets.take(rows)
            # With dropout as in training, but nothing recorded: no gradient goes below the last layer.
            with mx.autograd.train_mode():
                x = network.frozen(features.take(rows))
            with mx.autograd.record():
                logits = network.output(x)
                loss = cross_entropy(logits, y)
            loss.backward()
            trainer.step(len(rows))
            loss_sum += loss.sum()
            right += (logits.argmax(axis=1) == y).sum()
        scores = score(network.logits(valid[0]), valid[1])
        seconds.append(time.perf_counter() - begun)

        loss = loss_sum.asscalar() / len(labels)
        if not np.isfinite([loss, scores["loss"]]).all():
            raise InputError(f"the loss is not finite in epoch {epoch}: lower train.lr (it is {settings.lr})")
        log("train/loss", float(loss))
        log("train/top1", float(right.asscalar() / len(labels)))
        log("valid/loss", scores["loss"])
        log("valid/top1", scores["top1"])
        log("seconds", seconds[-1])
        next_step()
        if scores["top1"] > best_top1:
            best, best_top1 = epoch, scores["top1"]
            kept = {name: value.data().copy() for name, value in network.output.collect_params().items()}
    for name, value in network.output.collect_params().items():
        value.set_data(kept[name])
    return best, seconds


if __name__ == "__main__":
    main()
