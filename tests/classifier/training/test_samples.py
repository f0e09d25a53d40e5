"""Labelled features, and what the last layer gets of them."""

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.training import samples
from stages.classifier.training.samples import Inputs, class_weights
from tests.classifier.made import network
from tests.conftest import BACKBONE

CPU = mx.cpu()


def given(count, dim=8, seed=0, dtype=np.float16):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, dim)).astype(dtype), rng.integers(3, size=count)


def test_several_subsets_are_one_without_a_copy():
    one, two = given(5), given(7, seed=1)
    both = samples.samples(one, two, weights=np.ones(3))
    assert both.parts[0] is one[0] and both.parts[1] is two[0]
    rows = np.array([11, 0, 4, 5, 0])
    taken = both.take(rows)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, np.concatenate([one[0], two[0]])[rows].astype(np.float32))
    np.testing.assert_array_equal(both.labels, np.concatenate([one[1], two[1]]))


def test_balanced_classes_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 1, 3])
    found = class_weights("balanced", labels, 5)
    np.testing.assert_allclose(
        found[[0, 1, 3]], compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    )
    assert found[labels].mean() == pytest.approx(1)
    assert np.isfinite(found).all()
    assert class_weights("none", labels, 5).tolist() == [1] * 5


@pytest.mark.parametrize("small", [True, False])
def test_inputs_are_the_features_and_a_one(workspace, weights_file, monkeypatch, small):
    monkeypatch.setattr(samples, "SMALL", 10**9 if small else 0)
    workspace(BACKBONE, weights_file)
    built = head.build(network(), "pool", 3, 0.0, "last", [CPU])
    features, labels = given(3000)
    inputs = Inputs(built, samples.samples((features, labels), weights=np.ones(3)), training=True)
    pieces = [np.array([2999, 5]), np.arange(100, 1300)]
    for rows, found in zip(pieces, inputs.blocks(pieces)):
        np.testing.assert_array_equal(found, np.hstack([features[rows], np.ones((len(rows), 1))]).astype(np.float32))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_drawn_anew_in_training_alone(workspace, weights_file, training):
    workspace(BACKBONE, weights_file)
    built = head.build(network(), "pool", 3, 0.5, "last", [CPU])
    features, labels = given(40)
    features[:] = 1
    inputs = Inputs(built, samples.samples((features, labels), weights=np.ones(3)), training)
    first, second = inputs.blocks([np.arange(40)] * 2)
    assert (first[:, -1] == 1).all()
    if training:
        assert set(first[:, :-1].ravel().tolist()) == {0, 2} and not np.array_equal(first, second)
        assert 0.3 < (first[:, :-1] == 0).mean() < 0.7
    else:
        assert (first == 1).all() and (second == 1).all()


@pytest.mark.parametrize("small", [True, False])
def test_frozen_layers_are_computed(vgg, monkeypatch, small):
    monkeypatch.setattr(samples, "SMALL", 10**9 if small else 0)
    built = head.build(network(), "fc6", 3, 0.5, "last", [CPU, mx.cpu(1)])
    features, labels = given(5, dim=4096)
    inputs = Inputs(built, samples.samples((features, labels), weights=np.ones(3)), training=False)
    expected = built.frozen(mx.nd.array(features, dtype=np.float32)).asnumpy()
    (found,) = inputs.blocks([np.arange(5)])
    np.testing.assert_allclose(found[:, :-1], expected, rtol=1e-4, atol=1e-5)
    assert found.shape == (5, 4097)
