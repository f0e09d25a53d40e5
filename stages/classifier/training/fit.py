"""Training on stored features: one head for each combination of learning rate and weight decay, the best is kept.

Best is the head with the least loss on the validation samples in any epoch, and it is kept as it was then.
"""

from typing import Any, NamedTuple, Optional, Protocol, Union

import numpy as np

from stages.backend.mx import mx
from stages.classifier.head import Head
from stages.classifier.model.grid import Rule, Trial
from stages.classifier.scores import Labels, Scores, score
from stages.classifier.training import calibration, race
from stages.classifier.training.layers import Layers
from stages.classifier.training.linear import Linear
from stages.classifier.training.race import Epoch, Race
from stages.classifier.training.samples import Samples, class_weights, samples
from stages.common.errors import InputError
from stages.common.settings import params
from stages.features.stored.records import Features

Subset = tuple[Features, Labels]
# A way to train heads: of one layer side by side, of several one after the other.
Way = Union[type[Linear], type[Layers]]
CURVES = ("train/loss", "train/top1", "valid/loss", "valid/top1", "seconds")  # as in Epoch


class EpochLog(Protocol):
    """Where the curves go; what DVCLive's ``Live`` has."""

    def log_metric(self, name: str, val: float) -> None: ...

    def next_step(self) -> None: ...


class Fit(NamedTuple):
    """best: of ``trials``, which are in the order of the grid. epochs: those of the best.

    train, valid: the scores of the best as it was chosen. temperature: what its logits were divided by afterwards.
    """

    best: Trial
    trials: list[Trial]
    epochs: list[Epoch]
    train: Scores
    valid: Scores
    temperature: float


def fit(head: Head, train: Subset, valid: Subset, settings: params.Train, log: EpochLog) -> Fit:
    """Trains heads by all combinations of ``settings`` on ``train``; leaves the best, calibrated, in ``head.trained``.

    With ``settings.refit`` the best is trained anew on both subsets, by the same rule for as many epochs as were best.
    ``log`` gets its curves. Raises InputError where no loss is finite.
    """
    way: Way = Linear if settings.trainable == "last" else Layers
    weights = class_weights(settings.class_weights, train[1], head.classes)
    start = way.start(head, samples(train, valid, weights=weights), settings.seed)
    learnt, checked = samples(train, weights=weights), samples(valid, weights=weights)
    trials, best, epochs, values = _choose(way, head, start, learnt, checked, settings)
    for epoch in epochs:
        for name, value in zip(CURVES, epoch):
            log.log_metric(name, value)
        log.next_step()
    way.place(head, values)
    del values
    scores = [
        score(head.blocks(features), labels, counting)
        for (features, labels), counting in ((train, learnt.weights), (valid, checked.weights))
    ]
    temperature = calibration.temperature(lambda: head.blocks(valid[0]), valid[1])
    if settings.refit:
        way.place(head, _refitted(way, head, start, train, valid, best, settings))
    calibration.apply(head, temperature)
    return Fit(best, trials, epochs, scores[0], scores[1], temperature)


def _choose(way: Way, head: Head, start: Any, train: Samples, valid: Samples, settings: params.Train) -> Race:
    """All heads; together where they can learn so. Raises InputError where no loss is finite."""
    rules = [Rule(lr, decay) for lr in settings.rates for decay in settings.decays]
    won: Optional[Race] = None
    trials: list[Trial] = []
    for group in [rules] if way is Linear else [[rule] for rule in rules]:
        mx.random.seed(settings.seed)
        run = race.run(way(head, start, group, train, valid, settings), group, settings, len(train.labels))
        trials += run.trials
        if won is None or run.best.valid_loss < won.best.valid_loss:
            won = run
    if won is None or won.values is None:
        epoch, rate = max(trial.dropped or 0 for trial in trials), max(settings.rates)
        raise InputError(f"the loss is not finite in epoch {epoch}: lower train.lr (it is {rate})")
    return won._replace(trials=trials)


def _refitted(
    way: Way, head: Head, start: Any, train: Subset, valid: Subset, best: Trial, settings: params.Train
) -> Any:
    """What a head has learnt of both subsets by the rule of ``best``, after as many epochs as were best."""
    weights = class_weights(settings.class_weights, np.concatenate([train[1], valid[1]]), head.classes)
    both = samples(train, valid, weights=weights)
    mx.random.seed(settings.seed)
    learner = way(head, start, [best.rule], both, both, settings)
    shuffle = np.random.default_rng(settings.seed)
    for _ in range(best.best_epoch):
        learner.learn(shuffle.permutation(len(both.labels)))
    return learner.values(0)
