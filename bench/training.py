"""An epoch of training VGG16's head against the way of the article headstart began with: ``python -m bench.training``.

The article stores the convolutions' output, 25,088 numbers an image, and sends it through two frozen dense layers in
every epoch, by Gluon's DataLoader. headstart stores what the first of the two makes of it. Same order of images, from
zeros, no dropout, and without the principal axes, which so few images would have: the losses are the same. Then an
epoch of one head against a plain loop in PyTorch, and against its matrix products alone, and of twenty heads against
one; and the peak memory of the stage, against the number of images, and of classes.
"""

import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from bench.heads import Data, Log, fitted, torch_run
from bench.prepare import save_weights
from bench.table import MEMORY_AIM, Row, memory_row
from bench.workspace import DIM, workspace
from stages import train
from stages.backbones import parameters, zoo
from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.head import Head
from stages.classifier.scores import Labels
from stages.classifier.training import linear
from stages.classifier.training.fit import Subset, fit
from stages.common.settings import params
from stages.common.settings.layout import FEATURES
from stages.dataset import lists
from stages.features.stored import records
from stages.features.stored.records import Features

IMAGES, CLASSES, EPOCHS = 1024, 257, 3
AIM, SAME_LOSS = 8.0, 1e-4
# Of the heads that are compared with PyTorch's: images, features and classes.
SIZES = ((5501, 1280, 12), (2048, 4096, 12), (2048, 1280, 257), (2048, 4096, 257))
TORCH_AIM, HEADS_AIM = 1.5, 1 / 1.3
# Images and classes, features of Lite0: where one head has to fit beside the features, in so many times its size.
LARGE, COPIES = ((33945, 647), (49264, 5742)), 4
ONE: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.0, "refit": False}
# Images for the memory, features of Lite0; both fill more than the two blocks that are in the works at a time.
FEW, MANY = 4096, 40960


class Epochs(NamedTuple):
    """The mean loss and the seconds of each epoch."""

    losses: list[float]
    seconds: list[float]


def article(head: Head, features: Features, labels: Labels, settings: params.Train) -> Epochs:
    """Trains the last layer on the convolutions' output."""
    shuffle = np.random.default_rng(settings.seed)
    head.renew(np.zeros((CLASSES, head.width(features) + 1), np.float32))
    optimizer = mx.optimizer.create(settings.optimizer, learning_rate=settings.lr)
    head.trained.collect_params().setattr("grad_req", "write")
    trainer = mx.gluon.Trainer(head.trained.collect_params(), optimizer)
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    images = mx.gluon.data.ArrayDataset(features, labels.astype(np.float32))
    found = Epochs([], [])
    for _ in range(settings.epochs):
        begun = time.perf_counter()
        order = shuffle.permutation(len(labels)).tolist()
        total = 0.0
        for x, y in mx.gluon.data.DataLoader(images, batch_size=settings.batch_size, sampler=order):
            with mx.autograd.record():
                loss = cross_entropy(head.trained(head.frozen(x)), y)
            loss.backward()
            trainer.step(len(y))
            total += loss.sum().asscalar()
        found.losses.append(total / len(labels))
        found.seconds.append(time.perf_counter() - begun)
    return found


def headstart(head: Head, features: Features, labels: Labels, settings: params.Train) -> Epochs:
    """Trains the last layer on what fc6 makes of the convolutions' output, as the stage does it with large features."""
    with mock.patch.object(linear, "axes", lambda head, given: None):
        epochs = fit(head, (features, labels), (features[:32], labels[:32]), settings, Log()).epochs
    return Epochs([epoch.train_loss for epoch in epochs], [epoch.seconds for epoch in epochs])


def peak(count: int, classes: int, **changed: Any) -> float:
    """Peak memory (MB) of training on ``count`` images, with the section ``train`` ``changed``, in its own process."""
    command = [sys.executable, "-m", "bench.training", str(count), str(classes), json.dumps(changed)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def train_alone(count: int, classes: int, changed: dict[str, Any]) -> None:
    """What :func:`peak` runs: prints the peak memory of a process that trains on what another has written."""
    with workspace([], train=changed):
        random = np.random.default_rng(0)
        FEATURES.mkdir(parents=True)
        records.FeaturesInfo(
            backbone="efficientnet_lite0",
            cut="pool",
            resize="crop",
            precision="float32",
            weights=parameters.read_info().sha256,
            calibration="",
            dim=DIM,
            dtype="float16",
            fingerprint="",
            cpu="",
            classes=list(map(str, range(classes))),
        ).save(records.ABOUT)
        for subset, images in (("train", count), ("valid", 256)):
            rows = [lists.Row(i, i % classes, "") for i in range(images)]
            values = random.standard_normal((images, DIM), np.float32).astype("<f2")
            records.write(subset, rows, [bytes(32)] * len(rows), values)
        del values
        if os.fork() == 0:
            with contextlib.redirect_stdout(io.StringIO()):
                train.main()
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, flush=True)
            os._exit(0)
        os.wait()


def rows(folder: Path) -> Iterator[Row]:
    """Yields the rows of the table; ``folder`` is from ``prepare``."""
    yield memory_row("train", (FEW, MANY), (peak(FEW, CLASSES), peak(MANY, CLASSES)), DIM)
    settings = params.load().train.model_copy(
        update={
            "optimizer": "adam",
            "lr": 0.001,
            "weight_decay": 0.0,
            "schedule": "constant",
            "batch_size": 32,
            "dropout": 0.0,
            "epochs": EPOCHS,
            "refit": False,
        }
    )
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, IMAGES)
    # As ReLU and pooling leave it: about half of it zero.
    maps = random.standard_normal((IMAGES, 25088), np.float32).clip(0)
    place = folder / "vgg16"
    network = zoo.load("vgg16", place, sha256=parameters.read_info(place).sha256)
    early, late = (head.build(network, cut, CLASSES, 0.0, "last", [mx.cpu()]) for cut in ("conv", "fc6"))
    dense = early.frozen[0]
    fc6 = np.concatenate([dense(mx.nd.array(part)).asnumpy() for part in np.array_split(maps, 8)])
    slow, fast = article(early, maps, labels, settings), headstart(late, fc6, labels, settings)
    if not np.allclose(slow.losses, fast.losses, atol=SAME_LOSS, rtol=0):
        raise AssertionError(f"the losses differ: {slow.losses} and {fast.losses}")
    # The first epoch also compiles.
    ours, theirs = (IMAGES / statistics.median(found.seconds[1:]) for found in (fast, slow))
    yield Row(
        f"training epoch, VGG16, {IMAGES:,} images / the article's way", ours, theirs, "images/s", ours / theirs, AIM
    )
    yield from head_rows()
    for images, classes in LARGE:
        yield from large_rows(images, classes)


def head_rows() -> Iterator[Row]:
    """Yields the rows on an epoch of heads of one layer, in features made up."""
    for images, dim, classes in SIZES:
        random = np.random.default_rng(0)
        features = np.abs(random.standard_normal((images, dim), np.float32)).astype(np.float16)
        labels = np.arange(images) % classes
        some = features[:64], labels[:64]
        theirs = np.median(torch_run(Data((features, labels), some, some), 9, lr=0.01, dropout=0.0)["seconds"][1:])
        one = median_epoch((features, labels), some, lr=0.01, weight_decay=0.0)
        what = f"epoch of one head, {images:,} × {dim:,}, {classes} classes"
        yield Row(f"{what} / PyTorch", images / one, images / theirs, "images/s", theirs / one, TORCH_AIM)
        if classes == 12 and dim == 1280:
            many = whole((features, labels), some)
            alone = whole((features, labels), some, lr=0.01, weight_decay=0.0)
            yield Row(
                f"20 heads to the end, {images:,} × {dim:,} / one head", many, alone, "s", alone / many, HEADS_AIM
            )


def large_rows(images: int, classes: int) -> Iterator[Row]:
    """Yields the rows on one head of many classes: its memory, and its epoch against the matrix products in it."""
    what = f"{images:,} × {DIM:,}, {classes:,} classes"
    high, low = (peak(*size, **ONE, epochs=2) for size in ((images, classes), (512, 8)))
    allowed = low + (images * DIM * 2 + COPIES * classes * (DIM + 1) * 4) / 1e6
    yield Row(
        f"peak memory of train, {what} / features, {COPIES} heads", high, allowed, "MB", allowed / high, MEMORY_AIM
    )
    features = np.abs(np.random.default_rng(0).standard_normal((images, DIM), np.float32)).astype(np.float16)
    labels = np.arange(images) % classes
    one = median_epoch((features, labels), (features[:64], labels[:64]), epochs=3, lr=0.01, weight_decay=0.0)
    products = images / 64 * seconds_of_products(64, DIM + 1, classes)
    yield Row(f"epoch of one head, {what} / its products", images / one, images / products, "images/s", products / one)


def seconds_of_products(batch: int, width: int, classes: int) -> float:
    """What the two matrix products of a step take: logits, and the gradient."""
    random = np.random.default_rng(0)
    x, weights, slopes = (
        random.standard_normal(shape, np.float32) for shape in ((batch, width), (classes, width), (batch, classes))
    )
    gradient, taken = np.empty_like(weights), []
    for _ in range(50):
        begun = time.perf_counter()
        np.matmul(x, weights.T)
        np.matmul(slopes.T, x, out=gradient)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def median_epoch(train: Subset, valid: Subset, epochs: int = 9, **changed: Any) -> float:
    """Seconds of an epoch of the stage's training, with the section ``train`` ``changed``; the first prepares."""
    return statistics.median(
        epoch.seconds for epoch in fitted(train, valid, refit=False, epochs=epochs, **changed)[1].epochs[1:]
    )


def whole(train: Subset, valid: Subset, **changed: Any) -> float:
    """Seconds of all epochs, a refit not included."""
    return sum(epoch.seconds for epoch in fitted(train, valid, refit=False, **changed)[1].epochs)


def main() -> None:
    if len(sys.argv) > 1:
        return train_alone(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
    with tempfile.TemporaryDirectory() as folder:
        save_weights("vgg16", Path(folder))
        for row in rows(Path(folder)):
            print(row)


if __name__ == "__main__":
    main()
