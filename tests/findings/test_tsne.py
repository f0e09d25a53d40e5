"""t-SNE: against scikit-learn's on the same points, and against its formulas on few."""

import numpy as np
import pytest
from sklearn.manifold import TSNE, trustworthiness

from stages.findings import tsne
from tests.classifier.made import clouds


@pytest.fixture(scope="module")
def points():
    """Some clouds in 12 dimensions, turned to their principal axes."""
    x = clouds(classes=6, per_class=40, dim=12, spread=1.0)[0]
    x -= x.mean(axis=0)
    return np.ascontiguousarray(x @ np.linalg.svd(x, full_matrices=False)[2].T)


def divergence(likeness, places):
    """Of the distribution of pairs on the plane from that of the points: what t-SNE makes small."""
    heavy = 1 / (1 + ((places[:, None] - places[None]) ** 2).sum(axis=2))
    np.fill_diagonal(heavy, 0)
    there = likeness > 0
    return float((likeness[there] * np.log(likeness[there] / (heavy / heavy.sum())[there])).sum())


def likenesses(points, perplexity):
    found = np.empty((len(points), len(points)), np.float32)
    tsne._likenesses(points, perplexity, 0, found)
    return found


def test_every_point_has_as_many_neighbours_as_the_perplexity_says(points):
    found = likenesses(points, 20.0)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(points)), rel=1e-4)
    assert (np.diag(found) == 0).all()
    entropy = -(found * np.log(np.maximum(found, 1e-30))).sum(axis=1)
    assert np.exp(entropy) == pytest.approx(np.full(len(points), 20.0), rel=1e-3)


def test_the_map_is_as_good_as_scikit_learns(points):
    theirs = TSNE(2, perplexity=20, max_iter=500, init="pca", random_state=0).fit(points)
    ours = tsne.embed(points, 20.0)
    likeness = likenesses(points, 20.0)
    likeness = (likeness + likeness.T) / (2 * len(points))
    assert divergence(likeness, ours) < 1.1 * theirs.kl_divergence_
    assert trustworthiness(points, ours) > trustworthiness(points, theirs.embedding_) - 0.01


def test_it_is_the_same_on_any_number_of_cores(points, monkeypatch):
    found = tsne.embed(points, 20.0)
    monkeypatch.setattr(tsne, "cores", lambda physical: 5)
    assert (tsne.embed(points, 20.0) == found).all()


@pytest.mark.parametrize("dims", [1, 2])
def test_points_in_few_dimensions_have_a_place_too(points, dims):
    found = tsne.embed(points[:20, :dims], 5.0)
    assert found.shape == (20, 2) and np.isfinite(found).all()
    assert (found.std(axis=0) > 0).tolist() == [True, dims == 2]


def test_points_that_are_all_the_same_stay_together():
    assert np.ptp(tsne.embed(np.zeros((9, 3), np.float32), 2.0)) == 0
