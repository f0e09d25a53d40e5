"""Outliers: what is far from its class and from the others; not what bears a wrong label; nothing in clean data."""

import numpy as np

from stages.findings.outliers import outliers
from tests.classifier.made import clouds


def found_in(features, labels):
    half = len(features) // 2
    found = outliers([features[:half], features[half:]], labels, labels.max() + 1)
    return [tuple(each) for each in found]


def test_what_is_far_from_all_others_comes_first():
    features, labels = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32), np.arange(400) % 4
    features[[5, 250]] = 10 * features[[5, 250]]
    features[250] *= 2
    found = found_in(features, labels)
    assert [row for row, _ in found] == [250, 5]
    assert 0 < found[1][1] < found[0][1] < 1


def test_what_lies_between_the_classes_is_one_and_what_lies_in_another_class_is_not():
    features, labels = clouds(classes=3, per_class=60)
    centre = features.mean(axis=0)
    features[7] = centre
    labels[100] = (labels[100] + 1) % 3
    assert [row for row, _ in found_in(features, labels)] == [7]


def test_a_handful_of_one_kind_do_not_hide_each_other():
    features, labels = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32), np.arange(400) % 4
    features[:8] = 30 + 0.1 * features[:8]
    assert {row for row, _ in found_in(features, labels)} >= set(range(8))


def test_the_only_image_of_a_class_is_none_for_that():
    features, labels = clouds(classes=3, per_class=60)
    labels[7] = 3
    assert found_in(features, labels) == []


def test_data_of_one_kind_has_none():
    one = np.zeros(400, np.int64)
    assert found_in(np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32), one) == []
    assert found_in(np.ones((20, 4), np.float32), one[:20]) == []
    assert found_in(np.eye(3, 4, dtype=np.float32), one[:3]) == []
    assert found_in(np.eye(2, 4, dtype=np.float32), np.arange(2)) == []
