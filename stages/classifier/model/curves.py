"""What DVCLive wrote down of a training, epoch by epoch."""

import csv
import math
from typing import NamedTuple

from stages.common.errors import InputError
from stages.common.settings.layout import CURVES

KEPT = CURVES / "kept.json"


class Curve(NamedTuple):
    """A quantity by epoch, of both subsets."""

    train: list[float]
    valid: list[float]


class Curves(NamedTuple):
    """By epoch: loss and top-1 accuracy, of the training images with dropout; what the epoch took, in seconds."""

    loss: Curve
    top1: Curve
    seconds: list[float]


def read(epochs: int) -> Curves:
    """The curves of a training of ``epochs`` epochs.

    Raises InputError where there are none, or such as cannot be drawn or are of another training.
    """
    return Curves(_both("loss", epochs), _both("top1", epochs), _column("seconds", "seconds", epochs))


def _both(name: str, epochs: int) -> Curve:
    return Curve(*(_column(f"{subset}/{name}", name, epochs) for subset in ("train", "valid")))


def _column(file: str, name: str, epochs: int) -> list[float]:
    path = CURVES / "plots/metrics" / f"{file}.tsv"
    try:
        with open(path, encoding="utf-8", newline="") as lines:
            values = [float(row[name]) for row in csv.DictReader(lines, delimiter="\t")]
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro -f train`") from None
    except (ValueError, KeyError, TypeError, csv.Error):
        raise InputError(f"{path} is damaged: run `dvc repro -f train`") from None
    if len(values) != epochs:
        raise InputError(f"{CURVES} and data/model are not of one training: run `dvc repro -f train`")
    if not all(map(math.isfinite, values)):
        raise InputError(f"{path} is damaged: run `dvc repro -f train`")
    return values
