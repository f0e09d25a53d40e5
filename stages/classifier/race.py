"""Heads that learn side by side, epoch by epoch: which go on, and which was best, when."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from stages.classifier.learning import Learner, Rule
from stages.common.errors import InputError


class Trial(NamedTuple):
    """How a head did: its best epoch, from 1, and its scores on the validation samples after that.

    The best epoch is the one with the least loss, of equals the first; 0 where no loss was finite.
    dropped: the epoch after which it did not go on; None where it went to the end.
    """

    rule: Rule
    best_epoch: int
    valid_loss: float
    valid_top1: float
    dropped: Optional[int]


class Epoch(NamedTuple):
    """A head's scores on the way through an epoch (with dropout) and after it, and what it took for all heads."""

    train_loss: float
    train_top1: float
    valid_loss: float
    valid_top1: float
    seconds: float


class Race(NamedTuple):
    """trials: in the order of the rules. epochs, values: of the best, what it had learnt after its best epoch."""

    trials: list[Trial]
    epochs: list[Epoch]
    values: Any


def run(learner: Learner, rules: Sequence[Rule], samples: int, epochs: int, seed: int) -> Race:
    """Lets the heads of ``learner``, which learn by ``rules``, learn for ``epochs`` from so many ``samples``.

    Of several heads half are dropped after epochs 1, 2, 4, 8 and so on, those with the greatest loss at their best.
    Raises InputError where no head has a loss that is finite.
    """
    shuffle = np.random.default_rng(seed)
    trials = [Trial(rule, 0, math.inf, 0.0, None) for rule in rules]
    curves: list[list[Epoch]] = [[] for _ in rules]
    heads, least, values = list(range(len(rules))), math.inf, None
    for epoch in range(1, epochs + 1):
        begun = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # What is not finite is seen below.
            scores = np.array([*learner.learn(shuffle.permutation(samples)), *learner.scores()]).T.tolist()
        seconds = time.perf_counter() - begun
        finite = []
        for place, (head, own) in enumerate(zip(heads, scores)):
            now = Epoch(own[0], own[1], own[2], own[3], seconds)
            if not all(map(math.isfinite, own)):
                trials[head] = trials[head]._replace(dropped=epoch)
                continue
            finite.append(head)
            curves[head].append(now)
            if now.valid_loss < trials[head].valid_loss:
                trials[head] = Trial(rules[head], epoch, now.valid_loss, now.valid_top1, None)
            if now.valid_loss < least:
                # Two copies of a large head need not be there at a time.
                least, values = now.valid_loss, None
                values = learner.values(place)
        if not finite:
            tried = sorted({rule.lr for rule in rules}, reverse=True)
            raise InputError(f"the loss is not finite in epoch {epoch}: lower train.lr (it is {tried[0]})")
        going = _survivors(finite, trials, epoch, epochs)
        for head in set(finite) - set(going):
            trials[head] = trials[head]._replace(dropped=epoch)
        if going != heads:
            learner.keep([heads.index(head) for head in going])
            heads = going
    best = min(range(len(rules)), key=lambda head: trials[head].valid_loss)
    return Race(trials, curves[best], values)


def _survivors(heads: list[int], trials: Sequence[Trial], epoch: int, epochs: int) -> list[int]:
    """Which of ``heads`` go on after ``epoch``, in order: the better half after 1, 2, 4, … (successive halving)."""
    if epoch == epochs or epoch & (epoch - 1):
        return heads
    ranked = sorted(heads, key=lambda head: trials[head].valid_loss)
    return sorted(ranked[: -(-len(heads) // 2)])
