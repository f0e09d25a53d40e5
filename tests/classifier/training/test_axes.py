"""Principal axes: that a head along them is one of the features, and that nothing is lost where rows are few."""

import numpy as np
import pytest

from stages.classifier.training.axes import principal

RANDOM = np.random.default_rng(0)


def rows(count, width=12):
    """Rows that vary together, about a mean that is not 0."""
    mixed = RANDOM.standard_normal((count, width)) @ RANDOM.standard_normal((width, width))
    return (mixed + 5).astype(np.float32)


@pytest.mark.parametrize("count", [200, 12, 5, 2])
def test_along_the_axes_rows_are_as_far_from_one_another_as_before(count):
    x = rows(count)
    along = principal(x, np.ones(len(x), np.float32)).along(x)
    assert along.shape == (count, min(12, count - 1) if count <= 12 else 12)
    before, after = (((each[:, None] - each[None]) ** 2).sum(axis=2) for each in (x, along))
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)


def test_along_the_axes_nothing_varies_together_and_the_first_varies_most():
    x = rows(200)
    along = principal(x, np.ones(len(x), np.float32)).along(x)
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=1e-4)
    covariance = along.T @ along / len(x)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-4 * variances[0])
    assert (np.diff(variances) <= 0).all()


@pytest.mark.parametrize("count", [200, 5])
def test_weights_along_the_axes_are_weights_of_the_features(count):
    x, unseen = rows(count), rows(30)
    axes = principal(x, np.ones(len(x), np.float32))
    weights = RANDOM.standard_normal((3, axes.turn.shape[1] + 1)).astype(np.float32)
    plain = axes.back(weights)
    assert plain.shape == (3, 13)
    for given in (x, unseen):
        expected = axes.along(given) @ weights[:, :-1].T + weights[:, -1]
        np.testing.assert_allclose(given @ plain[:, :-1].T + plain[:, -1], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_rows_that_are_all_the_same_have_no_axes(count):
    axes = principal(np.ones((count, 12), np.float32), np.ones(count, np.float32))
    assert axes.turn.shape == (12, 0)
    np.testing.assert_array_equal(axes.back(np.array([[7]], np.float32)), [[0] * 12 + [7]])


def test_a_row_that_counts_twice_is_as_if_it_were_there_twice():
    x = rows(40)
    weights = np.array([1, 2] * 20, np.float32)
    counted, repeated = principal(x, weights), principal(np.repeat(x, [1, 2] * 20, axis=0), np.ones(60, np.float32))
    np.testing.assert_allclose(counted.mean, repeated.mean, rtol=1e-5)
    np.testing.assert_allclose(abs(counted.turn.T @ repeated.turn), np.eye(12), atol=1e-3)
