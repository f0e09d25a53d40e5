"""The temperature is the one that a minimiser finds, and divides the logits of a head."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.scores import score, softmax
from stages.classifier.training import calibration
from tests.classifier.made import network
from tests.conftest import BACKBONE


def made(scale, count=500, classes=6, seed=0):
    """Logits whose right temperature is ``scale``, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits)])
    return (logits * scale).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.2, 1, 5])
def test_it_is_where_the_cross_entropy_is_least(scale):
    logits, labels = made(scale)

    def loss(logarithm):
        likelihood = log_softmax(logits.astype(float) / np.exp(logarithm), axis=1)
        own = likelihood[np.arange(len(labels)), labels]
        # A row counts as of its class but for one part in n + 1, of all classes alike.
        return -(len(labels) * own + likelihood.mean(axis=1)).mean()

    expected = np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)
    halves = [logits[:200], logits[200:]]
    assert calibration.temperature(lambda: halves, labels) == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(scale, rel=0.2)


def test_where_all_is_right_it_is_low_and_no_number_overflows():
    labels = np.arange(30) % 3
    logits = np.eye(3, dtype=np.float32)[labels] * 0.1
    found = calibration.temperature(lambda: [logits], labels)
    sure = softmax(logits / found).max(axis=1)
    assert 0.9 < sure.min() <= sure.max() < 1


def test_logits_that_are_all_the_same_are_left_alone():
    assert calibration.temperature(lambda: [np.ones((4, 3), np.float32)], np.array([0, 1, 2, 0])) == 1


def test_a_head_gives_its_logits_divided(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    built = head.build(network(), "pool", 3, 0.0, "last", [mx.cpu()])
    built.renew(np.random.default_rng(0).standard_normal((3, 9)).astype(np.float32))
    features, labels = np.ones((2, 8), np.float32), np.array([0, 1])
    before = built.logits(features)
    calibration.apply(built, 2.5)
    np.testing.assert_allclose(built.logits(features), before / 2.5, rtol=1e-5)
    assert score([before], labels).top1 == score(built.blocks(features), labels).top1
