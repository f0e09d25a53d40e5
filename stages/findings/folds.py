"""What heads say of images that they were not trained on: one head for each fold, trained on all the others."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.classifier.learning import pieces, softmax
from stages.classifier.scores import Labels
from stages.classifier.updates import STATES, Array, correction, update
from stages.common.progress import progress
from stages.features.stored.records import Features
from stages.findings.gathered import taken

Probabilities = NDArray[np.float32]  # (n, classes)

FOLDS = 5
# Found on the digits and on patches of photos: more epochs find no more of the labels that were changed.
OPTIMIZER, BATCH, RATE, DECAY = "adam", 128, 0.005, 0.03
# Bytes up to which what the heads learn from is kept, instead of being scaled anew in each epoch.
SMALL = 128 * 2**20


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

    All heads are one dense layer each and learn side by side, as one wide matrix over the same batches, by a learning
    rate that goes to 0: a row has no part in the gradient of its own fold's.
    """
    inputs = _source(subsets)
    weights = np.zeros((folds * classes, subsets[0].shape[1] + 1), np.float32)
    state = tuple(np.zeros_like(weights) for _ in range(STATES[OPTIMIZER]))
    gradient, decay = np.empty_like(weights), np.full(len(weights), DECAY, np.float32)
    epochs = _epochs(len(labels))
    shuffle, steps, step = np.random.default_rng(0), epochs * -(-len(labels) // BATCH), 0
    with progress(total=epochs * len(labels), desc="training on folds", leave=False) as bar:
        for _ in range(epochs):
            for rows in pieces(shuffle.permutation(len(labels)), BATCH):
                x = inputs(rows)
                np.matmul(_slopes(x, weights, labels[rows], fold[rows], folds).T, x, out=gradient)
                step += 1
                rate = RATE * (1 + np.cos(np.pi * step / steps)) / 2 * correction(OPTIMIZER, step)
                update(OPTIMIZER)(weights, gradient, state, np.full(len(weights), rate, np.float32), decay)
                bar.update(len(rows))
    found = np.empty((len(labels), classes), np.float32)
    for rows in pieces(np.arange(len(labels)), BATCH):
        z = _logits(inputs(rows), weights, folds)
        softmax(z, labels[rows])
        found[rows] = z[np.arange(len(rows)), fold[rows]]
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


def _source(subsets: Sequence[Features]) -> Callable[[NDArray[np.int64]], Array]:
    """What gives the inputs of rows: see :func:`_inputs`."""
    inputs = functools.partial(_inputs, subsets, _scale(subsets))
    count = sum(map(len, subsets))
    if 4 * count * subsets[0].shape[1] > SMALL:
        return inputs
    whole = inputs(np.arange(count))
    return lambda rows: whole[rows]


def _inputs(subsets: Sequence[Features], scale: tuple[Array, np.float32], rows: NDArray[np.int64]) -> Array:
    """The features of ``rows``, scaled, and a column of ones, which the bias is multiplied with."""
    mean, spread = scale
    x = np.ones((len(rows), len(mean) + 1), np.float32)
    x[:, :-1] = taken(subsets, rows)
    x[:, :-1] -= mean
    x[:, :-1] /= spread
    return x


def _logits(x: Array, weights: Array, folds: int) -> Array:
    """By each head: (rows, folds, classes)."""
    return np.matmul(x, weights.T).reshape(len(x), folds, -1)


def _slopes(x: Array, weights: Array, labels: Labels, fold: NDArray[np.int64], folds: int) -> Array:
    """Of the mean loss of the rows that a head learns from, by its logits: (rows, folds · classes)."""
    z = _logits(x, weights, folds)
    softmax(z, labels)
    rows = np.arange(len(x))
    z[rows, :, labels] -= 1
    z[rows, fold] = 0
    z /= np.float32(len(x) * (1 - 1 / folds))
    return z.reshape(len(x), -1)
