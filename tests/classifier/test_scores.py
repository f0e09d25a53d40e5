"""Scores, against scikit-learn's."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from stages.classifier import scores
from stages.classifier.scores import Kept, Scores, TrainMetrics, per_class_accuracy, score
from stages.classifier.scores import softmax as probabilities


def logits_and_labels(rows=500, classes=12, seed=0):
    """float32 logits that are right more often than by chance, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=rows)
    logits = rng.normal(0, 2, (rows, classes)).astype(np.float32)
    logits[np.arange(rows), labels] += 2
    return logits, labels


def test_the_scores_are_those_of_scikit_learn():
    logits, labels = logits_and_labels()
    found = score([logits], labels)
    every = np.arange(12)
    assert found.loss == pytest.approx(log_loss(labels, softmax(logits.astype(float), axis=1), labels=every))
    assert found.top1 == top_k_accuracy_score(labels, logits, k=1, labels=every)
    assert found.top5 == top_k_accuracy_score(labels, logits, k=5, labels=every)
    assert 0.2 < found.top1 < found.top5 < 1


def test_blocks_of_rows_score_as_the_whole():
    logits, labels = logits_and_labels()
    assert score(np.split(logits, [64, 128, 499]), labels) == pytest.approx(score([logits], labels), rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_with_five_classes_or_fewer_every_row_is_in_the_top_five(classes):
    logits, labels = logits_and_labels(100, classes)
    found = score([logits], labels)
    assert found.top5 == 1
    assert found.top1 == np.mean(logits.argmax(axis=1) == labels)


def test_a_tie_counts_against_the_row():
    # A head that has learnt nothing is right about nothing, rather than about everything.
    assert score([np.zeros((4, 3))], np.array([0, 1, 2, 0])).top1 == 0
    assert score([np.array([[1.0, 1.0, 0.0]])], np.array([0])).top1 == 0
    # The true class shares places 5 and 6.
    assert score([np.array([[9, 8, 7, 6, 1, 1, 0]])], np.array([4])).top5 == 0
    assert score([np.array([[9, 8, 7, 6, 2, 1, 0]])], np.array([4])).top5 == 1


def test_equal_logits_lose_the_logarithm_of_the_number_of_classes():
    assert score([np.zeros((4, 10), np.float32)], np.array([0, 1, 2, 3])).loss == pytest.approx(np.log(10))


def test_huge_logits_do_not_overflow():
    found = score([np.array([[1e4, 0, -1e4], [0, 1e4, 0]], np.float32)], np.array([0, 0]))
    assert found.loss == pytest.approx(5e3)


def test_probabilities_are_scipys_softmax():
    logits, _ = logits_and_labels()
    found = probabilities(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, softmax(logits.astype(float), axis=1), rtol=1e-12)
    assert probabilities(np.array([[1e4, 0, -1e4]], np.float32)).tolist() == [[1, 0, 0]]


def test_scores_are_plain_numbers():
    logits, labels = logits_and_labels(10)
    assert {type(value) for value in score([logits], labels)} == {float}


def test_what_is_not_a_number_counts_against_the_row():
    # As after training has diverged.
    assert score([np.full((3, 7), np.nan)], np.array([0, 1, 2])) == pytest.approx((np.nan, 0, 0), nan_ok=True)


def test_the_mean_of_the_classes_accuracies_is_scikit_learns_balanced_accuracy():
    logits, labels = logits_and_labels(400, 7)
    labels[labels == 3] = 2  # classes of different sizes, one of them empty
    logits[:, 3] = -100
    predicted = logits.argmax(axis=1)
    found = per_class_accuracy(predicted, labels, 7)
    assert np.isnan(found[3])
    assert np.nanmean(found) == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert np.nanmean(found) != pytest.approx(np.mean(predicted == labels))
    for label in (0, 1, 2, 4, 5, 6):
        assert found[label] == np.mean(predicted[labels == label] == label)


def test_a_class_that_is_never_right_has_zero():
    assert per_class_accuracy(np.array([1, 1]), np.array([0, 1]), 2).tolist() == [0, 1]


def test_training_metrics_are_flat_and_rounded():
    train, valid = Scores(0.12345678, 0.5, 1.0), Scores(1 / 3, 2 / 3, 1.0)
    kept = Kept.of(2, 3, train, valid)
    assert list(TrainMetrics.of(kept, 0.01, 0.0, 15).model_dump().items()) == [
        ("valid_top1", 0.666667), ("valid_loss", 0.333333), ("best_epoch", 2),
        ("lr", 0.01), ("weight_decay", 0.0), ("refit", 15),
    ]  # fmt: skip
    assert list(kept.model_dump().items()) == [
        ("best_epoch", 2), ("epochs", 3), ("train_loss", 0.123457), ("train_top1", 0.5), ("train_top5", 1.0),
        ("valid_loss", 0.333333), ("valid_top1", 0.666667), ("valid_top5", 1.0),
    ]  # fmt: skip


def test_classes_without_images_do_not_count_in_the_mean_of_the_classes():
    metrics = scores.TestMetrics.of(Scores(1 / 3, 2 / 3, 1.0), np.array([1.0, np.nan, 0.5]), 0.1, 6)
    assert list(metrics.model_dump().items()) == [
        ("top1", 0.666667), ("top5", 1.0), ("mean_class_accuracy", 0.75), ("loss", 0.333333), ("ece", 0.1),
        ("images", 6),
    ]  # fmt: skip
