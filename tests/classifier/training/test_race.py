"""Which heads go on, which was best, when; by learners whose losses are written down."""

import math

import numpy as np
import pytest

from stages.classifier.learning import Losses
from stages.classifier.model.grid import Rule
from stages.classifier.training import race
from tests.classifier.made import settings


class Written:
    """A learner whose heads have the validation losses ``losses`` [head][epoch], and as values their epoch."""

    def __init__(self, losses):
        self.losses, self.numbers, self.epoch, self.orders = losses, list(range(len(losses))), 0, []

    def _losses(self):
        loss = np.array([self.losses[number][self.epoch - 1] for number in self.numbers])
        return Losses(loss, 1 / (1 + loss))

    def learn(self, order):
        self.epoch += 1
        self.orders.append(order)
        return self._losses()

    def scores(self):
        return self._losses()

    def keep(self, heads):
        self.numbers = [self.numbers[head] for head in heads]

    def values(self, head):
        return self.numbers[head], self.epoch


def run(losses, samples=10, **values):
    """The race of ``losses``, whose heads have the learning rates 1, 2, …: one step an epoch."""
    learner = Written(losses)
    rules = [Rule(float(number), 0.0) for number in range(1, len(losses) + 1)]
    given = settings(**{"epochs": len(losses[0]), "batch_size": samples, **values})
    return race.run(learner, rules, given, samples), learner


def test_the_head_and_the_epoch_with_the_least_loss_are_best():
    found, _ = run([[3, 2, 1, 2], [4, 0.5, 3, 5], [1, 1, 1, 1]])
    assert found.best == (Rule(2.0, 0.0), 2, 0.5, pytest.approx(1 / 1.5), None)
    assert found.values == (1, 2)
    assert [epoch.valid_loss for epoch in found.epochs] == [4, 0.5, 3, 5]
    assert [(trial.best_epoch, trial.valid_loss) for trial in found.trials] == [(3, 1), (2, 0.5), (1, 1)]


def test_of_equals_the_first_is_best():
    found, _ = run([[2, 1, 1], [2, 1, 2]])
    assert (found.best.rule.lr, found.best.best_epoch, found.values) == (1, 2, (0, 2))


def test_where_the_learning_rate_goes_to_0_only_the_end_counts():
    found, _ = run([[3, 0.1, 2], [4, 3, 1]], schedule="cosine")
    assert (found.best.rule.lr, found.best.best_epoch, found.best.valid_loss) == (2, 3, 1)
    assert found.values == (1, 3)
    assert [trial.best_epoch for trial in found.trials] == [3, 3]


def test_each_epoch_has_another_order_and_the_seed_says_which():
    (_, one), (_, same), (_, other) = (run([[1, 1, 1]], samples=50, seed=seed) for seed in (3, 3, 4))
    orders = [tuple(order) for order in one.orders]
    assert len(set(orders)) == 3 and all(sorted(order) == list(range(50)) for order in orders)
    assert orders == [tuple(order) for order in same.orders] != [tuple(order) for order in other.orders]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_half_go_on_whenever_the_steps_have_doubled(schedule):
    # 32 steps in an epoch: the first comparison is after the second.
    losses = [[8 - head] * 10 for head in range(8)]
    found, learner = run(losses, samples=32, batch_size=1, schedule=schedule)
    assert [trial.dropped for trial in found.trials] == [2, 2, 2, 2, 4, 4, 8, None]
    assert learner.numbers == [7]
    assert found.best.rule.lr == 8


def test_of_few_steps_nobody_is_dropped():
    found, _ = run([[3] * 63, [2] * 63, [1] * 63])
    assert {trial.dropped for trial in found.trials} == {None}


def test_after_many_steps_in_an_epoch_one_is_left():
    found, _ = run([[5, 5], [4, 4], [3, 3], [2, 2], [1, 1]], samples=300, batch_size=1)
    assert [trial.dropped for trial in found.trials] == [1, 1, 1, 1, None]


def test_after_the_last_epoch_nobody_is_dropped():
    found, _ = run([[1], [2]], samples=300, batch_size=1)
    assert [trial.dropped for trial in found.trials] == [None, None]


def test_what_is_not_finite_is_dropped():
    found, learner = run([[1, math.nan, 0], [2, 2, 2], [math.inf, 1, 1]])
    assert [trial.dropped for trial in found.trials] == [2, None, 1]
    assert learner.numbers == [1]
    # What it was before is as good as ever.
    assert found.best == (Rule(1.0, 0.0), 1, 1, 0.5, 2)
    assert len(found.epochs) == 1
    assert found.trials[2][1:4] == (0, math.inf, 0)
    at_the_end, _ = run([[1, math.nan, 0], [2, 2, 2]], schedule="cosine")
    assert at_the_end.best.rule.lr == 2 and at_the_end.values == (1, 3)


def test_where_nothing_is_finite_there_is_no_best():
    found, _ = run([[1, math.nan], [math.nan, 1]], schedule="cosine")
    assert found.values is None
    assert [trial.dropped for trial in found.trials] == [2, 1]
