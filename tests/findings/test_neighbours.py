"""Neighbours: against all similarities at once, over block borders, in subsets of any size."""

import numpy as np
import pytest

from stages.findings import neighbours


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 32)


def made(*sizes, dim=20, dtype=np.float16):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((size, dim)) + 3).astype(dtype) for size in sizes]


def brute(subsets, k):
    """The rows of the k nearest of each row in each subset, and their cosines."""
    x = np.concatenate(subsets).astype(np.float32)
    x -= x.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    starts = np.cumsum([0, *map(len, subsets)])
    rows = [np.argsort(-cosines[:, i:j], axis=1)[:, :k] + i for i, j in zip(starts, starts[1:])]
    return np.stack(rows, axis=1), cosines


def test_the_nearest_of_each_subset_as_by_all_products_at_once(small_blocks):
    subsets = made(170, 64, 33)
    found = neighbours.nearest(subsets, neighbours.space(subsets), 5)
    rows, cosines = brute(subsets, 5)
    assert (found.rows == rows).all()
    expected = np.take_along_axis(cosines[:, None], rows, axis=2)
    assert found.similarities == pytest.approx(expected, abs=1e-5)


def test_a_subset_with_fewer_rows_leaves_places_empty(small_blocks):
    subsets = made(40, 3, 1)
    found = neighbours.nearest(subsets, neighbours.space(subsets), 5)
    assert (found.rows[:, 1] >= 0).sum(axis=1).tolist() == [3] * 40 + [2] * 3 + [3]
    # The only row of its subset has itself alone there.
    assert (found.rows[:, 2] >= 0).sum(axis=1).tolist() == [1] * 43 + [0]
    assert np.isneginf(found.similarities[found.rows < 0]).all()


def test_no_row_is_its_own_neighbour_but_its_copy_is(small_blocks):
    subsets = made(100, 40)
    subsets[1][7] = subsets[0][3]
    found = neighbours.nearest(subsets, neighbours.space(subsets), 3)
    assert (found.rows != np.arange(140)[:, None, None]).all()
    assert found.rows[3, 1, 0] == 107 and found.rows[107, 0, 0] == 3
    assert found.similarities[3, 1, 0] == pytest.approx(1, abs=1e-5)


def test_more_images_are_compared_on_principal_components(small_blocks, monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT", 100)
    monkeypatch.setattr(neighbours, "REDUCED", 8)
    rng = np.random.default_rng(1)
    plane = rng.standard_normal((8, 40))
    whole = (rng.standard_normal((200, 8)) @ plane).astype(np.float32)
    subsets = [whole[:120], whole[120:]]
    space = neighbours.space(subsets)
    assert space.axes.shape == (40, 8)
    # Nothing is lost of what has no more dimensions than that.
    assert (neighbours.nearest(subsets, space, 4).rows == brute(subsets, 4)[0]).all()


def test_equal_features_have_no_direction():
    subsets = [np.ones((5, 4), np.float16), np.ones((5, 4), np.float16)]
    found = neighbours.nearest(subsets, neighbours.space(subsets), 2)
    assert (found.similarities[found.rows >= 0] == 0).all()
