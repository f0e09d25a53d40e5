"""Probabilities that mean what they say: of the images that get 0.9, nine in ten are right.

All logits of a head are divided by one temperature, chosen on validation samples (Guo et al. 2017, "On calibration of
modern neural networks"); which class is the likeliest stays the same.
"""

from collections.abc import Callable, Iterable

import numpy as np

from stages.backend.mx import mx
from stages.classifier.head import Head
from stages.classifier.scores import Labels, Logits

# Of the inverse temperature.
LEAST, MOST = 0.01, 100.0


def temperature(blocks: Callable[[], Iterable[Logits]], labels: Labels) -> float:
    """The temperature at which the logits have the least mean cross-entropy.

    blocks: gives the logits (rows, classes), block by block, as many rows in all as ``labels``.

    A row counts as of its class but for one part in n + 1, of all classes alike, as if there were one row more (after
    Platt 1999): otherwise, where all rows are right, no temperature would be low enough. By Newton's method on the
    inverse temperature, in which the cross-entropy is convex.
    """
    inverse = 1.0
    for _ in range(100):
        slope, bend = _derivatives(blocks(), labels, inverse)
        if bend <= 0:
            break
        # Half or twice at most: far from the minimum it is no parabola.
        new = min(max(inverse - slope / bend, inverse / 2, LEAST), inverse * 2, MOST)
        done = abs(new - inverse) < 1e-6 * inverse
        inverse = new
        if done:
            break
    return 1 / inverse


def _derivatives(blocks: Iterable[Logits], labels: Labels, inverse: float) -> tuple[float, float]:
    """The first and the second derivative of the cross-entropy by the inverse temperature, both times the rows."""
    slope = bend = 0.0
    start = 0
    for logits in blocks:
        z = logits.astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        own = z[np.arange(len(z)), labels[start : start + len(z)]]
        start += len(z)
        likelihood = np.exp(z * inverse)
        likelihood /= likelihood.sum(axis=1, keepdims=True)
        mean = (likelihood * z).sum(axis=1)
        target = (len(labels) * own + z.mean(axis=1)) / (len(labels) + 1)
        slope += float((mean - target).sum())
        bend += float((likelihood * (z - mean[:, None]) ** 2).sum())
    return slope, bend


def apply(head: Head, temperature: float) -> None:
    """Divides all logits of ``head`` by ``temperature``: in its last layer, so that nobody can forget."""
    output = head.trained[-1]
    for parameter in (output.weight, output.bias):
        parameter.set_data(parameter.data(head.contexts[0]) * mx.nd.array([1 / temperature], ctx=head.contexts[0]))
