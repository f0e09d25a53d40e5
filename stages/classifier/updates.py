"""How an optimizer turns gradients into steps: MXNet's formulas and defaults, as machine code that Numba makes.

An update is ``(weights, gradient, state, rate, decay)``, in place, for some rows of a matrix of weights:

weights, gradient: float32 (rows, columns).
state: the optimizer's own arrays of that shape, as many as ``STATES`` says, which start as zeros.
rate, decay: learning rate and weight decay of each row, float32 (rows,).

In one pass over the arrays, where numpy makes a dozen; MXNet's own operators know no rate of each row.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Update = Callable[[Array, Array, tuple[Array, ...], Array, Array], None]

MOMENTUM = np.float32(0.9)
BETA1, BETA2 = np.float32(0.9), np.float32(0.999)
EPSILON, ADAGRAD_EPSILON = np.float32(1e-8), np.float32(1e-7)
ONE = np.float32(1)

STATES = {"adam": 2, "sgd": 0, "nag": 1, "rmsprop": 1, "adagrad": 1}


def correction(optimizer: str, step: int) -> float:
    """What the learning rate is multiplied with in the step of this number, from 1: Adam's correction of its bias."""
    return math.sqrt(1 - 0.999**step) / (1 - 0.9**step) if optimizer == "adam" else 1.0


@functools.cache
def update(optimizer: str) -> Update:
    """The update of that name."""
    from stages.common.compiled import compiled  # loads Numba

    return compiled({"adam": _adam, "sgd": _sgd, "nag": _nag, "rmsprop": _rmsprop, "adagrad": _adagrad}[optimizer])


def _sgd(weights: Array, gradient: Array, state: tuple[Array, ...], rate: Array, decay: Array) -> None:
    """Down the gradient."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weights[i, j] -= rate[i] * (gradient[i, j] + decay[i] * weights[i, j])


def _nag(weights: Array, gradient: Array, state: tuple[Array, ...], rate: Array, decay: Array) -> None:
    """Nesterov's accelerated gradient, with momentum 0.9."""
    momentum = state[0]
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            step = rate[i] * (gradient[i, j] + decay[i] * weights[i, j])
            momentum[i, j] = momentum[i, j] * MOMENTUM - step
            weights[i, j] += momentum[i, j] * MOMENTUM - step


def _adam(weights: Array, gradient: Array, state: tuple[Array, ...], rate: Array, decay: Array) -> None:
    """Kingma and Ba 2014, algorithm 1; ``rate`` has the :func:`correction`.

    The state is what the article calls m / (1 - β1) and v / (1 - β2).
    """
    mean, variance = state
    spread = np.sqrt(ONE - BETA2)
    epsilon = EPSILON / spread
    for i in range(weights.shape[0]):
        scaled = rate[i] * ((ONE - BETA1) / spread)
        for j in range(weights.shape[1]):
            slope = gradient[i, j] + decay[i] * weights[i, j]
            mean[i, j] = mean[i, j] * BETA1 + slope
            variance[i, j] = variance[i, j] * BETA2 + slope * slope
            weights[i, j] -= scaled * (mean[i, j] / (np.sqrt(variance[i, j]) + epsilon))


def _rmsprop(weights: Array, gradient: Array, state: tuple[Array, ...], rate: Array, decay: Array) -> None:
    """Tieleman and Hinton 2012."""
    square = state[0]
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            slope = gradient[i, j] + decay[i] * weights[i, j]
            square[i, j] = square[i, j] * BETA1 + slope * slope * (ONE - BETA1)
            weights[i, j] -= rate[i] * (slope / np.sqrt(square[i, j] + EPSILON))


def _adagrad(weights: Array, gradient: Array, state: tuple[Array, ...], rate: Array, decay: Array) -> None:
    """Duchi, Hazan and Singer 2011; the decay is of the weights, not of the history."""
    square = state[0]
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            square[i, j] += gradient[i, j] * gradient[i, j]
            scaled = gradient[i, j] / np.sqrt(square[i, j] + ADAGRAD_EPSILON)
            weights[i, j] -= rate[i] * (scaled + decay[i] * weights[i, j])
