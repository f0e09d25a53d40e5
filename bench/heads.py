"""The default head against others, on the same features and splits: ``python -m bench.heads [--choices]``.

Top-1, loss and calibration error on the test images, means over split seeds, and the seconds of one training, choice
included. One head at each learning rate; scikit-learn's LogisticRegression with C chosen on the validation images and
refitted on both; ridge regression in closed form, chosen and refitted the same way; a plain loop in PyTorch.

With ``--choices`` against itself: the default with each of its choices made otherwise.
"""

import argparse
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.prepare import PEERS
from bench.sets import Set, sets, splits
from stages.backbones import zoo
from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.head import Head
from stages.classifier.scores import Labels, score, softmax
from stages.classifier.training import calibration
from stages.classifier.training.fit import Fit, Subset, fit
from stages.common.settings import params
from stages.features.stored.records import Features
from stages.report import reliability

SEEDS = 5
STRENGTHS = 10.0 ** np.arange(-3, 2.1, 0.5)
RIDGES = 10.0 ** np.arange(-2, 4.1, 0.5)
EPOCHS = 40  # of the loop in PyTorch


class Data(NamedTuple):
    """The subsets of a split: features and labels."""

    train: Subset
    valid: Subset
    test: Subset

    @property
    def both(self) -> Subset:
        """Train and valid."""
        return np.concatenate([self.train[0], self.valid[0]]), np.concatenate([self.train[1], self.valid[1]])


# From a split and a seed to logits of its test images.
Method = Callable[[Data, int], NDArray[Any]]


class Log:
    """Curves that nobody looks at."""

    def log_metric(self, name: str, val: float) -> None:
        """Nothing."""

    def next_step(self) -> None:
        """Nothing."""


def fitted(train: Subset, valid: Subset, **changed: Any) -> tuple[Head, Fit]:
    """What the stage's training makes, by the section ``train`` of the shipped params, ``changed``."""
    settings, classes = params.load().train.model_copy(update=changed), int(train[1].max()) + 1
    built = head.build(zoo.build("efficientnet_lite0"), "pool", classes, settings.dropout, "last", [mx.cpu()])
    return built, fit(built, train, valid, settings, Log())


def ours(**changed: Any) -> Method:
    """The logits by what :func:`fitted` makes."""
    return lambda data, seed: fitted(data.train, data.valid, **changed, seed=seed)[0].logits(data.test[0])


def logistic(data: Data, seed: int) -> NDArray[Any]:
    """scikit-learn's, C by the loss on the validation images, refitted on both."""
    from sklearn.linear_model import LogisticRegression

    def regression(strength: float, x: Features, y: Labels) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return LogisticRegression(C=strength, max_iter=200).fit(x.astype(np.float32), y)

    def loss(strength: float) -> float:
        found = regression(strength, *data.train).predict_log_proba(data.valid[0].astype(np.float32))
        return -float(found[np.arange(len(found)), data.valid[1]].mean())

    best = min(STRENGTHS, key=loss)
    return np.asarray(regression(best, *data.both).decision_function(data.test[0].astype(np.float32)))


def ridge(data: Data, seed: int) -> NDArray[Any]:
    """Least squares on one-hot targets, the penalty by the accuracy on the validation images, refitted on both.

    Its outputs are no logits: a temperature chosen on the validation images makes them some.
    """

    def outputs(penalty: float, learnt: Subset, x: Features) -> NDArray[Any]:
        features, labels = learnt[0].astype(np.float64), learnt[1]
        mean, targets = features.mean(axis=0), np.eye(int(labels.max()) + 1)[labels]
        centred = features - mean
        gram = centred @ centred.T
        dual = np.linalg.solve(gram + penalty * np.eye(len(gram)), targets - targets.mean(axis=0))
        return np.asarray((x - mean) @ (centred.T @ dual) + targets.mean(axis=0))

    def right(penalty: float) -> float:
        return float((outputs(penalty, data.train, data.valid[0]).argmax(axis=1) == data.valid[1]).mean())

    best = max(RIDGES, key=right)
    checked = outputs(best, data.train, data.valid[0])
    return outputs(best, data.both, data.test[0]) / calibration.temperature(lambda: [checked], data.valid[1])


def torch_loop(data: Data, seed: int) -> NDArray[Any]:
    """Adam at its default learning rate, the best epoch by the accuracy on the validation images."""
    return torch_run(data, EPOCHS, lr=0.001, dropout=0.0)["test"]


def torch_run(data: Data, epochs: int, lr: float, dropout: float) -> dict[str, NDArray[Any]]:
    """What ``bench/torch_head.py`` finds; see there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        (x, y), (valid_x, valid_y), (test_x, _) = data
        given = {"x": x, "y": y, "valid_x": valid_x, "valid_y": valid_y, "test_x": test_x}
        np.savez(path, **given, epochs=epochs, lr=lr, dropout=dropout)
        subprocess.run([PEERS, "bench/torch_head.py", path], check=True)
        return dict(np.load(f"{path}.out.npz"))


def methods() -> dict[str, Method]:
    """By what the table calls them."""
    rates = params.load().train.rates
    return {
        "headstart": ours(),
        **{f"one head, lr {rate:g}": ours(lr=rate, weight_decay=0.0, refit=False) for rate in rates},
        "LogisticRegression, swept, refitted": logistic,
        "ridge, swept, refitted": ridge,
        "PyTorch loop": torch_loop,
    }


def choices() -> dict[str, Method]:
    """The default head, and what it is without one of its choices; by what the table calls them."""
    others: list[dict[str, Any]] = [
        {"weight_decay": 0.0},
        {"lr": 0.01},
        {"refit": False},
        {"schedule": "constant"},
        {"epochs": 40},
        {"dropout": 0.2},
        {"optimizer": "nag"},
        {"class_weights": "balanced"},
    ]
    named = {f"{key}: {value}".lower(): ours(**{key: value}) for other in others for key, value in other.items()}
    return {"headstart": ours(), **named}


def measured(method: Method, given: Set) -> list[float]:
    """Means over the splits: top-1, loss, ECE, seconds."""
    found = []
    for seed in range(SEEDS):
        train, valid, test = ((given.features[rows], given.labels[rows]) for rows in splits(given.labels, seed))
        begun = time.perf_counter()
        logits = method(Data(train, valid, test), seed)
        seconds = time.perf_counter() - begun
        scores = score([logits], test[1])
        error = reliability.expected_error(reliability.bins(softmax(logits), test[1]))
        found.append([scores.top1, scores.loss, error, seconds])
    return np.asarray(np.mean(found, axis=0)).tolist()


def table(wanted: Sequence[Set], heads: Mapping[str, Method]) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    yield "| set | images | classes | head | top-1 | loss | ECE | seconds |"
    yield "|---|---:|---:|---|---:|---:|---:|---:|"
    for given in wanted:
        for name, method in heads.items():
            top1, loss, error, seconds = measured(method, given)
            size = f"{len(given.labels):,} | {len(np.unique(given.labels))}"
            yield f"| {given.name} | {size} | {name} | {top1:.4f} | {loss:.4f} | {error:.4f} | {seconds:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.heads", description=__doc__.split(":")[0])
    parser.add_argument("--choices", action="store_true", help="the default against itself, one choice made otherwise")
    given = parser.parse_args()
    for line in table(list(sets()), choices() if given.choices else methods()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
