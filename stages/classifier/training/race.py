"""Heads that learn side by side, epoch by epoch: which go on, and which was best, when."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.classifier.learning import Learner
from stages.classifier.model.grid import Rule, Trial
from stages.common.settings.params import Train

# Steps after which heads are compared for the first time.
FIRST = 64


class Epoch(NamedTuple):
    """A head's scores on the way through an epoch (with dropout) and after it, and what it took for all heads."""

    train_loss: float
    train_top1: float
    valid_loss: float
    valid_top1: float
    seconds: float


class Race(NamedTuple):
    """trials: in the order of the rules. best: of them. epochs, values: its, and what it had learnt; None where no
    head's loss was finite.
    """

    trials: list[Trial]
    best: Trial
    epochs: list[Epoch]
    values: Any


def run(learner: Learner, rules: Sequence[Rule], settings: Train, samples: int) -> Race:
    """Lets the heads of ``learner``, which learn by ``rules``, learn from so many ``samples``.

    The best head is the one with the least loss on the validation samples; with a constant learning rate after its
    best epoch, of equals the first; with one that goes to 0 at the end.
    """
    shuffle = np.random.default_rng(settings.seed)
    heads, dropped = list(range(len(rules))), [0] * len(rules)
    curves: list[list[Epoch]] = [[] for _ in rules]
    best, least, values = 0, math.inf, None
    for epoch in range(1, settings.epochs + 1):
        begun = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # What is not finite is seen below.
            scores = np.array([*learner.learn(shuffle.permutation(samples)), *learner.scores()]).T.tolist()
        seconds = time.perf_counter() - begun
        finite = [head for head, own in zip(heads, scores) if all(map(math.isfinite, own))]
        for head, (loss, top1, valid_loss, valid_top1) in zip(heads, scores):
            if head in finite:
                curves[head].append(Epoch(loss, top1, valid_loss, valid_top1, seconds))
        if not finite:
            dropped = [last or epoch for last in dropped]
            break
        first = min(finite, key=lambda head: curves[head][-1].valid_loss)
        if curves[first][-1].valid_loss < least and counts(epoch, settings):
            # Two copies of a large head need not be there at a time.
            best, least, values = first, curves[first][-1].valid_loss, None
            values = learner.values(heads.index(first))
        going = _survivors(finite, curves, settings, samples)
        for head in set(heads) - set(going):
            dropped[head] = epoch
        if going != heads:
            learner.keep([heads.index(head) for head in going])
            heads = going
    trials = [_trial(*of_head, settings) for of_head in zip(rules, curves, dropped)]
    return Race(trials, trials[best], curves[best], values)


def counts(epoch: int, settings: Train) -> bool:
    """Whether a head may be kept as it is after ``epoch``: where the learning rate goes to 0, only at the end."""
    return settings.schedule == "constant" or epoch == settings.epochs


def _survivors(heads: list[int], curves: Sequence[list[Epoch]], settings: Train, samples: int) -> list[int]:
    """Which of ``heads`` go on, in order: whenever the number of steps has doubled, from ``FIRST`` on, the better half.

    Successive halving (Jamieson and Talwalkar 2016), by the loss on the validation samples.
    """
    epoch = len(curves[heads[0]])
    if epoch == settings.epochs:
        return heads
    steps, before = (count * -(-samples // settings.batch_size) for count in (epoch, epoch - 1))
    ranked = sorted(heads, key=lambda head: _best(curves[head], settings).valid_loss)
    halvings = _doublings(steps) - _doublings(before)
    return sorted(ranked[: -(-len(heads) // 2**halvings)])


def _doublings(steps: int) -> int:
    return (steps // FIRST).bit_length()


def _best(curve: list[Epoch], settings: Train) -> Epoch:
    return min(curve, key=lambda epoch: epoch.valid_loss) if settings.schedule == "constant" else curve[-1]


def _trial(rule: Rule, curve: list[Epoch], dropped: int, settings: Train) -> Trial:
    if not curve:
        return Trial(rule, 0, math.inf, 0.0, dropped)
    best = _best(curve, settings)
    return Trial(rule, 1 + curve.index(best), best.valid_loss, best.valid_top1, dropped or None)
