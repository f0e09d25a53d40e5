"""An epoch of training VGG16's head against the way of the article headstart began with: ``python -m bench.training``.

The article stores the convolutions' output, 25,088 numbers an image, and sends it through two frozen dense layers in
every epoch, by Gluon's DataLoader. headstart stores what the first of the two makes of it. Same seed, same order of
images, no dropout: the losses are the same. And the peak memory of the stage, against the number of images.
"""

import contextlib
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.reuse import DIM, workspace
from bench.table import Row, memory_row
from stages import train
from stages.backend.mx import mx
from stages.classifier import head
from stages.common import params
from stages.common.files import write_json
from stages.common.layout import FEATURES
from stages.dataset import lists
from stages.features import records

IMAGES, CLASSES, EPOCHS = 1024, 257, 3
AIM, SAME_LOSS = 8.0, 1e-4
# Images for the memory, features of Lite0; both fill more than the two blocks that are in the works at a time.
FEW, MANY = 4096, 40960


def article(network, features, labels, settings):
    """Trains the last layer on the convolutions' output; returns mean loss and seconds of each epoch."""
    mx.random.seed(settings.seed)
    shuffle = np.random.default_rng(settings.seed)
    network.trained[-1].initialize(mx.init.Xavier(), force_reinit=True)
    network.logits(features[:1])
    optimizer = mx.optimizer.create(settings.optimizer, learning_rate=settings.lr)
    trainer = mx.gluon.Trainer(network.trained.collect_params(), optimizer)
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    images = mx.gluon.data.ArrayDataset(features, labels.astype(np.float32))
    losses, seconds = [], []
    for _ in range(settings.epochs):
        begun = time.perf_counter()
        order = shuffle.permutation(len(labels)).tolist()
        total = 0.0
        for x, y in mx.gluon.data.DataLoader(images, batch_size=settings.batch_size, sampler=order):
            with mx.autograd.record():
                loss = cross_entropy(network.trained(network.frozen(x)), y)
            loss.backward()
            trainer.step(len(y))
            total += loss.sum().asscalar()
        losses.append(total / len(labels))
        seconds.append(time.perf_counter() - begun)
    return losses, seconds


def headstart(network, features, labels, settings):
    """The same for ``stages.train`` on what fc6 makes of it."""
    losses = []
    keep = {"train/loss": losses.append}
    few = features[:32], labels[:32]
    _, seconds = train.fit(
        network, (features, labels), few, settings, lambda name, value: keep.get(name, id)(value), lambda: None
    )
    return losses, seconds


def peak(count):
    """Peak memory (MB) of training on ``count`` images, in a process of its own."""
    command = [sys.executable, "-m", "bench.training", str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def train_alone(count):
    """What :func:`peak` runs: prints the peak memory of a process that trains on what another has written."""
    with workspace([]):
        random = np.random.default_rng(0)
        FEATURES.mkdir(parents=True)
        for subset, images in (("train", count), ("valid", 256)):
            rows = [lists.Row(i, i % CLASSES, "") for i in range(images)]
            values = (random.standard_normal(DIM).astype("<f2") for _ in rows)
            records.write(subset, ((row, bytes(32), value) for row, value in zip(rows, values)))
        about = {"backbone": "efficientnet_lite0", "cut": "auto", "resize": "crop", "precision": "float32", "dim": DIM}
        write_json(records.ABOUT, {**about, "dtype": "float16", "classes": list(map(str, range(CLASSES)))})
        if os.fork() == 0:
            with contextlib.redirect_stdout(io.StringIO()):
                train.main()
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, flush=True)
            os._exit(0)
        os.wait()


def rows(folder):
    """Yields the rows of the table; ``folder`` holds ``vgg16.params`` (see ``forward.prepare``)."""
    yield memory_row("train", (FEW, MANY), map(peak, (FEW, MANY)), DIM)
    settings = params.load().train.model_copy(
        update={"optimizer": "adam", "lr": 0.001, "batch_size": 32, "dropout": 0.0, "epochs": EPOCHS}
    )
    with workspace([], "vgg16", Path(folder, "vgg16.params").resolve()):
        random = np.random.default_rng(0)
        labels = random.integers(0, CLASSES, IMAGES)
        # As ReLU and pooling leave it: about half of it zero.
        maps = random.standard_normal((IMAGES, 25088), np.float32).clip(0)
        heads = {cut: head.build("vgg16", cut, CLASSES, 0.0, "last", [mx.cpu()]) for cut in ("conv", "fc6")}
        dense = heads["conv"].frozen[0]
        fc6 = np.concatenate([dense(mx.nd.array(part)).asnumpy() for part in np.array_split(maps, 8)])
        slow, slow_seconds = article(heads["conv"], maps, labels, settings)
        fast, fast_seconds = headstart(heads["fc6"], fc6, labels, settings)
    if not np.allclose(slow, fast, atol=SAME_LOSS, rtol=0):
        raise AssertionError(f"the losses differ: {slow} and {fast}")
    # The first epoch also compiles.
    ours, theirs = (IMAGES / statistics.median(seconds[1:]) for seconds in (fast_seconds, slow_seconds))
    yield Row(
        f"training epoch, VGG16, {IMAGES:,} images / the article's way", ours, theirs, "images/s", ours / theirs, AIM
    )


def main():
    if len(sys.argv) > 1:
        return train_alone(int(sys.argv[1]))
    from bench import forward

    with tempfile.TemporaryDirectory() as folder:
        forward.write_weights("vgg16", Path(folder))
        for row in rows(folder):
            print(row)


if __name__ == "__main__":
    main()
