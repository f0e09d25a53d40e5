"""How an optimizer turns gradients into steps, on numpy arrays: MXNet's formulas and defaults, in place.

An update is ``(weights, gradient, state, rate, decay, scratch)``, for one block of rows of a matrix of weights:

weights, gradient, scratch: float32 (rows, columns). All are written to; what the last two hold afterwards is of no use.
state: the optimizer's own arrays of that shape, as many as ``STATES`` says, which start as zeros.
rate, decay: learning rate and weight decay of each row, float32 (rows, 1).

MXNet's own operators do not run through a wide matrix as fast as numpy does, nor with another rate in each row.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Update = Callable[[Array, Array, Sequence[Array], Array, Array, Array], None]

MOMENTUM = 0.9
BETA1, BETA2 = np.float32(0.9), np.float32(0.999)
EPSILON, ADAGRAD_EPSILON = np.float32(1e-8), np.float32(1e-7)


def correction(optimizer: str, step: int) -> float:
    """What the learning rate is multiplied with in the step of this number, from 1: Adam's correction of its bias."""
    return math.sqrt(1 - 0.999**step) / (1 - 0.9**step) if optimizer == "adam" else 1.0


def sgd(weights: Array, gradient: Array, state: Sequence[Array], rate: Array, decay: Array, scratch: Array) -> None:
    """Down the gradient."""
    _decay(weights, gradient, decay, scratch)
    gradient *= rate
    weights -= gradient


def nag(weights: Array, gradient: Array, state: Sequence[Array], rate: Array, decay: Array, scratch: Array) -> None:
    """Nesterov's accelerated gradient, with momentum 0.9."""
    (momentum,) = state
    _decay(weights, gradient, decay, scratch)
    gradient *= rate
    momentum *= np.float32(MOMENTUM)
    momentum -= gradient
    weights -= gradient
    np.multiply(momentum, np.float32(MOMENTUM), out=scratch)
    weights += scratch


def adam(weights: Array, gradient: Array, state: Sequence[Array], rate: Array, decay: Array, scratch: Array) -> None:
    """Kingma and Ba 2014, algorithm 1; ``rate`` has the :func:`correction`.

    The state is what the article calls m / (1 - β1) and v / (1 - β2): two passes over the weights less.
    """
    mean, variance = state
    _decay(weights, gradient, decay, scratch)
    mean *= BETA1
    mean += gradient
    gradient *= gradient
    variance *= BETA2
    variance += gradient
    np.sqrt(variance, out=scratch)
    spread = np.sqrt(1 - BETA2)
    scratch += EPSILON / spread
    np.divide(mean, scratch, out=scratch)
    scratch *= rate * ((1 - BETA1) / spread)
    weights -= scratch


def rmsprop(weights: Array, gradient: Array, state: Sequence[Array], rate: Array, decay: Array, scratch: Array) -> None:
    """Tieleman and Hinton 2012."""
    (square,) = state
    _decay(weights, gradient, decay, scratch)
    np.multiply(gradient, gradient, out=scratch)
    scratch *= 1 - BETA1
    square *= BETA1
    square += scratch
    np.add(square, EPSILON, out=scratch)
    np.sqrt(scratch, out=scratch)
    gradient /= scratch
    gradient *= rate
    weights -= gradient


def adagrad(weights: Array, gradient: Array, state: Sequence[Array], rate: Array, decay: Array, scratch: Array) -> None:
    """Duchi, Hazan and Singer 2011; the decay is of the weights, not of the history."""
    (square,) = state
    np.multiply(gradient, gradient, out=scratch)
    square += scratch
    np.add(square, ADAGRAD_EPSILON, out=scratch)
    np.sqrt(scratch, out=scratch)
    gradient /= scratch
    _decay(weights, gradient, decay, scratch)
    gradient *= rate
    weights -= gradient


UPDATES: dict[str, Update] = {"adam": adam, "sgd": sgd, "nag": nag, "rmsprop": rmsprop, "adagrad": adagrad}
STATES = {"adam": 2, "sgd": 0, "nag": 1, "rmsprop": 1, "adagrad": 1}


def _decay(weights: Array, gradient: Array, decay: Array, scratch: Array) -> None:
    if decay.any():
        np.multiply(weights, decay, out=scratch)
        gradient += scratch
