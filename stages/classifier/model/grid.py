"""metrics/grid.csv: how each of the heads did that were trained, one row for each."""

import csv
import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

from stages.common.disk.files import write_csv
from stages.common.errors import InputError
from stages.common.settings.layout import METRICS

PATH = METRICS / "grid.csv"
HEADING = ("head", "lr", "weight_decay", "best_epoch", "valid_loss", "valid_top1", "dropped")
# Of scores.
DIGITS = 6


class Rule(NamedTuple):
    """How a head learns."""

    lr: float
    weight_decay: float


class Trial(NamedTuple):
    """How a head did: its scores on the validation samples after an epoch, the best (see ``race``), numbered from 1.

    best_epoch: 0 where no loss was finite. dropped: the epoch after which it did not go on; None where it went to the
    end.
    """

    rule: Rule
    best_epoch: int
    valid_loss: float
    valid_top1: float
    dropped: Optional[int]


def write(trials: Sequence[Trial]) -> None:
    """Writes ``trials``; a head none of whose losses was finite has neither epoch nor scores."""
    write_csv(PATH, HEADING, map(_row, trials))


def _row(trial: Trial) -> list[object]:
    (lr, decay), dropped = trial.rule, trial.dropped or ""
    found = [trial.best_epoch, round(trial.valid_loss, DIGITS), round(trial.valid_top1, DIGITS)]
    return [f"lr {lr:g}, decay {decay:g}", lr, decay, *(found if trial.best_epoch else [""] * 3), dropped]


def read() -> list[Trial]:
    """What was written. Raises InputError where it is missing or damaged."""
    try:
        with open(PATH, encoding="utf-8", newline="") as file:
            trials = [_trial(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise InputError(f"{PATH} is missing: run `dvc repro -f train`") from None
    except (ValueError, KeyError, TypeError, csv.Error):
        trials = []
    if not trials:
        raise InputError(f"{PATH} is damaged: run `dvc repro -f train`")
    return trials


def _trial(row: dict[str, str]) -> Trial:
    rule, dropped = Rule(_number(row["lr"]), _number(row["weight_decay"])), row["dropped"]
    last: Optional[int] = int(dropped) if dropped else None
    if not row["best_epoch"]:
        return Trial(rule, 0, math.inf, 0.0, last)
    return Trial(rule, int(row["best_epoch"]), _number(row["valid_loss"]), _number(row["valid_top1"]), last)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
