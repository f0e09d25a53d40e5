"""What the report counts and draws."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from stages.report import figures


def test_examples_are_the_surest_mistakes_and_the_least_sure_hits():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.55, 0.45]])
    labels = np.array([0, 0, 0, 0, 1])
    assert figures.surest_mistakes(probabilities, labels) == [1, 3, 4]
    assert figures.surest_mistakes(probabilities, labels, most=2) == [1, 3]
    assert figures.least_sure(probabilities, labels) == [2, 0]


def test_equals_stay_in_order():
    probabilities = np.full((5, 2), 0.5)
    assert figures.surest_mistakes(probabilities, np.ones(5, int)) == [0, 1, 2, 3, 4]


def test_classes_are_counted_as_scikit_learn_counts():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(5, size=200), rng.integers(5, size=200)
    confusion = figures.confusion_matrix(predicted, labels, 5)
    assert confusion.tolist() == confusion_matrix(labels, predicted).tolist()
    rows = {row.name: row for row in figures.class_rows("abcde", confusion)}
    assert [rows[name].accuracy for name in "abcde"] == pytest.approx(recall_score(labels, predicted, average=None))
    assert [rows[name].precision for name in "abcde"] == pytest.approx(precision_score(labels, predicted, average=None))


def test_the_least_accurate_class_comes_first_and_one_without_images_last():
    confusion = np.array([[4, 0, 0, 0], [3, 1, 0, 0], [0, 0, 0, 0], [1, 2, 0, 1]])
    rows = figures.class_rows(["a", "b", "none", "d"], confusion)
    assert [row.name for row in rows] == ["b", "d", "a", "none"]
    assert [row.taken_for for row in rows] == ["a", "b", None, None]
    assert [row.times for row in rows] == [3, 2, 0, 0]
    assert rows[-1].accuracy is None
    assert rows[-1].precision is None


def test_pairs_come_by_images_then_by_share():
    confusion = np.array([[10, 2, 0], [2, 2, 0], [5, 0, 9]])
    assert figures.worst_pairs("abc", confusion) == [("c", "a", 5, 5 / 14), ("b", "a", 2, 0.5), ("a", "b", 2, 2 / 12)]


@pytest.mark.parametrize(("right", "count"), [(422, 449), (0, 5), (5, 5)])
def test_the_interval_is_wilsons(right, count):
    low, high = binomtest(right, count).proportion_ci(method="wilson")
    assert figures.wilson(right / count, count) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1.53, [0, 0.5, 1, 1.5, 2]),
        (0.51, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (1, 40, [0, 10, 20, 30, 40]),
        (0, 0.003, [0, 0.001, 0.002, 0.003]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low, high, expected):
    assert figures.ticks(low, high) == expected


def test_every_cell_of_the_map_is_drawn_once_in_its_shade():
    confusion = np.array([[99, 1, 0], [0, 0, 0], [2, 3, 5]])
    drawn = figures.heat_map(confusion)
    assert drawn.right == ["", "", "", "", "M0 0h1v1h-1zM2 2h1v1h-1z"]
    assert drawn.wrong == ["M1 0h1v1h-1z", "", "", "M0 2h1v1h-1z", "M1 2h1v1h-1z"]
    assert drawn.rows == [(100, {0: 99, 1: 1}), (0, {}), (10, {0: 2, 1: 3, 2: 5})]


def test_a_chart_spans_its_area():
    chart = figures.chart({"train": [2.0, 1.0, 0.0], "valid": [2.0, 1.5, 1.0]}, marked=2, floor=0.0)
    assert chart.lines["train"] == [(chart.left, chart.top), (257.0, 116.0), (chart.right, chart.bottom)]
    assert chart.lines["valid"][-1] == (chart.right, 116.0)
    assert (chart.epochs, chart.marked, chart.marked_x, chart.half) == (3, 2, 257.0, 105.5)
    assert chart.x_ticks == [(chart.left, 1), (257.0, 2), (chart.right, 3)]
    assert [label for _, label in chart.y_ticks] == ["0", "0.5", "1", "1.5", "2"]
