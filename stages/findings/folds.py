"""What heads say of images that they were not trained on: one head for each fold, trained on all the others."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.classifier.scores import Labels
from stages.common.progress import progress
from stages.findings.gathered import taken
from stages.findings.neighbours import Features

Probabilities = NDArray[np.float32]  # (n, classes)
Array = NDArray[np.float32]

FOLDS = 5
# Found on the digits and on patches of photos: more epochs find no more of the labels that were changed.
BATCH, RATE, DECAY = 128, 0.005, 0.03
# Adam's (Kingma and Ba 2014).
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def deal(labels: Labels, bound: NDArray[np.int64], folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each row: of each class as many in every fold, and rows with one number in ``bound`` in one.

    A set of such rows goes by the class of its first one.
    """
    _, first, sets = np.unique(bound, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(first))
    order = np.lexsort((shuffled, labels[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return np.asarray(fold[sets])


def _epochs(count: int) -> int:
    """Of how many rows how many epochs: ten, of few rows as many as make a hundred and fifty steps, of many fewer."""
    return int(np.clip(20_000 // count, 10, 60)) if count <= 20_000 else max(4, 200_000 // count)


def out_of_fold(
    subsets: Sequence[Features], labels: Labels, fold: NDArray[np.int64], classes: int, folds: int = FOLDS
) -> Probabilities:
    """Of every row the probabilities by the head that was trained on the other folds. fold: of each row.

    All heads are one dense layer each and learn side by side, as one wide matrix over the same batches: a row has no
    part in the gradient of its own fold's.
    """
    scale = _scale(subsets)
    weights = np.zeros((folds * classes, len(scale[0]) + 1), np.float32)
    moments = np.zeros_like(weights), np.zeros_like(weights)
    epochs = _epochs(len(labels))
    shuffle, steps, step = np.random.default_rng(0), epochs * -(-len(labels) // BATCH), 0
    with progress(total=epochs * len(labels), desc="training on folds", leave=False) as bar:
        for _ in range(epochs):
            for rows in _pieces(shuffle.permutation(len(labels))):
                x = _inputs(subsets, rows, scale)
                slopes = _probabilities(x, weights, folds)
                slopes[np.arange(len(rows)), :, labels[rows]] -= 1
                slopes[np.arange(len(rows)), fold[rows]] = 0
                gradient = slopes.reshape(len(rows), -1).T @ x / np.float32(len(rows) * (1 - 1 / folds))
                gradient += np.float32(DECAY) * weights
                step += 1
                _adam(weights, gradient, moments, step, RATE * (1 + np.cos(np.pi * step / steps)) / 2)
                bar.update(len(rows))
    found = np.empty((len(labels), classes), np.float32)
    for rows in _pieces(np.arange(len(labels))):
        found[rows] = _probabilities(_inputs(subsets, rows, scale), weights, folds)[np.arange(len(rows)), fold[rows]]
    return found


def _scale(subsets: Sequence[Features]) -> tuple[Array, np.float32]:
    """The mean of all features (dim,), and how far they are from it in the mean, all dimensions together."""
    count, dim = sum(map(len, subsets)), subsets[0].shape[1]
    total, squares = np.zeros(dim), np.zeros(dim)
    for subset in subsets:
        for start in range(0, len(subset), 4096):
            block = subset[start : start + 4096].astype(np.float32)
            total += block.sum(axis=0, dtype=np.float64)
            squares += np.einsum("ij,ij->j", block, block, dtype=np.float64)
    variance = (squares / count - (total / count) ** 2).mean()
    return (total / count).astype(np.float32), np.float32(np.sqrt(variance) or 1)


def _pieces(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def _inputs(subsets: Sequence[Features], rows: NDArray[np.int64], scale: tuple[Array, np.float32]) -> Array:
    """The features of ``rows``, scaled, and a column of ones, which the bias is multiplied with."""
    mean, spread = scale
    x = np.ones((len(rows), len(mean) + 1), np.float32)
    x[:, :-1] = taken(subsets, rows)
    x[:, :-1] -= mean
    x[:, :-1] /= spread
    return x


def _probabilities(x: Array, weights: Array, folds: int) -> Array:
    """By each head: (rows, folds, classes)."""
    z = (x @ weights.T).reshape(len(x), folds, -1)
    z -= z.max(axis=2, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=2, keepdims=True)
    return z


def _adam(weights: Array, gradient: Array, moments: tuple[Array, Array], step: int, rate: float) -> None:
    mean, square = moments
    mean += np.float32(1 - BETA1) * (gradient - mean)
    square += np.float32(1 - BETA2) * (gradient * gradient - square)
    corrected = rate * np.sqrt(1 - BETA2**step) / (1 - BETA1**step)
    weights -= np.float32(corrected) * mean / (np.sqrt(square) + np.float32(EPSILON))
