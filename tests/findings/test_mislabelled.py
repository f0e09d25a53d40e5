"""Confident learning, on probabilities made by hand and on labels that were changed."""

import numpy as np
import pytest

from stages.findings import folds
from stages.findings.mislabelled import Doubt, doubts, typical
from tests.classifier.made import clouds


def test_a_class_counts_where_it_is_as_likely_as_for_its_own_images():
    # On the mean class 0 has 0.6 for its own images, class 1 has 0.7.
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.7, 0.3, 0], [0.1, 0.9, 0], [0.5, 0.5, 0]], np.float32)
    labels = np.array([0, 0, 0, 1, 1])
    found = doubts(probabilities, labels)
    assert found == [Doubt(1, 1, pytest.approx(0.6))]
    # With 0.5 class 1 is not as likely as it is on the mean, and class 0 neither: nothing is said of the last row.
    assert typical(probabilities, labels) == {0: 0, 1: 3}


def test_a_class_without_images_is_never_suggested():
    assert doubts(np.array([[0.1, 0.9], [0.3, 0.7]], np.float32), np.array([0, 0])) == []


def test_the_first_doubts_are_the_labels_that_were_changed():
    features, labels = clouds(classes=5, per_class=60, dim=32, spread=0.6)
    random = np.random.default_rng(3)
    changed = random.permutation(len(labels))[:15]
    given = labels.copy()
    given[changed] = (given[changed] + random.integers(1, 5, 15)) % 5
    fold = folds.deal(given, np.arange(len(given)))
    found = doubts(folds.out_of_fold([features], given, fold, 5), given)
    right = [doubt for doubt in found[:15] if doubt.row in changed]
    assert len(right) >= 13
    assert all(doubt.suggested == labels[doubt.row] for doubt in right)
    assert [doubt.score for doubt in found] == sorted((doubt.score for doubt in found), reverse=True)
