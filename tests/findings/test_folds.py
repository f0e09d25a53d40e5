"""Folds: how rows are dealt, and that no head is asked about a row it has learnt from."""

import numpy as np

from stages.findings import folds
from tests.classifier.made import clouds


def test_every_class_is_in_every_fold_alike():
    labels = np.repeat([0, 1, 2], [25, 50, 10])
    fold = folds.deal(labels, np.arange(len(labels)))
    for label, each in ((0, 5), (1, 10), (2, 2)):
        assert np.bincount(fold[labels == label], minlength=5).tolist() == [each] * 5


def test_what_is_bound_is_in_one_fold():
    labels = np.random.default_rng(0).integers(0, 4, 200)
    bound = np.random.default_rng(1).integers(0, 60, 200)
    fold = folds.deal(labels, bound)
    assert all(len(set(fold[bound == number])) == 1 for number in set(bound))
    assert set(fold) == set(range(5))


def test_heads_learn_and_know_the_classes_of_rows_they_have_not_seen():
    features, labels = clouds(classes=4, per_class=40)
    fold = folds.deal(labels, np.arange(len(labels)))
    found = folds.out_of_fold([features[:70], features[70:]], labels, fold, 4)
    assert found.shape == (160, 4) and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == labels).all()


def test_a_label_has_no_part_in_what_is_said_of_its_own_fold():
    features, labels = clouds(classes=3, per_class=20)
    fold = folds.deal(labels, np.arange(len(labels)))
    before = folds.out_of_fold([features], labels, fold, 3)
    changed = np.where(fold == 2, (labels + 1) % 3, labels)
    after = folds.out_of_fold([features], changed, fold, 3)
    assert (before[fold == 2] == after[fold == 2]).all()
    assert (before[fold != 2] != after[fold != 2]).any()


def test_of_many_rows_inputs_are_not_kept_and_give_the_same(monkeypatch):
    features, labels = clouds(classes=3, per_class=20)
    fold = folds.deal(labels, np.arange(len(labels)))
    before = folds.out_of_fold([features[:30], features[30:]], labels, fold, 3)
    monkeypatch.setattr(folds, "SMALL", 0)
    assert (folds.out_of_fold([features[:30], features[30:]], labels, fold, 3) == before).all()
