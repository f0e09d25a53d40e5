"""Outliers: what is far from everything, whatever its direction; nothing in data that is all of one kind."""

import numpy as np

from stages.findings import neighbours
from stages.findings.outliers import NEIGHBOURS, outliers


def found_in(features):
    subsets = [features[::2], features[1::2]]
    rows = np.concatenate([np.arange(len(features))[::2], np.arange(len(features))[1::2]])
    near = neighbours.nearest(subsets, neighbours.space(subsets), NEIGHBOURS)
    return [(int(rows[row]), score) for row, score in outliers(near)]


def test_what_is_far_from_all_others_comes_first():
    features = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    features[[5, 250]] = 10 * features[[5, 250]]
    features[250] *= 2
    found = found_in(features)
    assert [row for row, _ in found] == [250, 5]
    assert 0 < found[1][1] < found[0][1] < 1


def test_a_handful_of_one_kind_do_not_hide_each_other():
    features = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    features[:8] = 30 + 0.1 * features[:8]
    assert {row for row, _ in found_in(features)} >= set(range(8))


def test_data_of_one_kind_has_none():
    assert found_in(np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)) == []
    assert found_in(np.ones((20, 4), np.float32)) == []
    assert found_in(np.eye(3, 4, dtype=np.float32)) == []
