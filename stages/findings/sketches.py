"""Small versions of images, and how alike two of them are: also where one was cropped, resized, brightened or encoded
anew. Two photographs of one thing are not alike in this sense.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
# Images are compared in boxes, scaled to so many pixels: from CUTS of a side, to 1 - CUTS of it.
INNER = 24
CUTS = (0, 0.025, 0.05)
# Boxes along a side.
BOXES = len(CUTS) ** 2
# What keeps the comparison of flat images steady (Wang et al. 2004, for values from 0 to 1).
STEADY_MEAN, STEADY_SPREAD, STEADY_DETAIL = 0.01**2, 0.03**2, 0.007**2
# Detail is what is left when the mean of so many pixels to each side is taken off.
BLUR = 3
# Side of the coarse versions, which tell most pairs apart.
COARSE = 8
# Pairs compared at a time.
CHUNK = 64

Sketch = NDArray[np.uint8]  # (SIDE, SIDE, 3), RGB
Array = NDArray[np.float32]


class Likeness(NamedTuple):
    """Of each pair, from -1 to 1: whole, of the boxes that fit best; detail, of what is fine in them. float32 (n,)."""

    whole: Array
    detail: Array


def sketch(image: Image.Image) -> Sketch:
    """A small version of an RGB image."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _along(begin: float, end: float) -> Array:
    """What scales that part of a side to ``INNER`` pixels, by a triangle filter: (INNER, SIDE)."""
    step = (end - begin) * SIDE / INNER
    centres = begin * SIDE + (np.arange(INNER) + 0.5) * step
    weights = np.maximum(0, 1 - abs(centres[:, None] - (np.arange(SIDE) + 0.5)) / max(step, 1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _blur() -> Array:
    near = abs(np.arange(INNER)[:, None] - np.arange(INNER)) <= BLUR
    return np.asarray(near / near.sum(axis=1, keepdims=True), np.float32)


PARTS = np.stack([_along(begin, 1 - end) for begin in CUTS for end in CUTS])
WEIGHTS = PARTS.mean(axis=1)
MEAN = _blur()


def coarse(sketches: NDArray[np.uint8]) -> Array:
    """Coarse versions of ``sketches`` (n, SIDE, SIDE, 3), of which the product of two says how alike they are about:
    (n, COARSE² · 3), the mean 0 and the length 1, or 0 where an image is flat.
    """
    step = SIDE // COARSE
    # Row by row and column by column: a mean over two axes at once takes five times as long.
    rows = np.add.reduce([sketches[:, start::step] for start in range(step)], dtype=np.uint16)
    means = np.add.reduce([rows[:, :, start::step] for start in range(step)], dtype=np.float32)
    means = means.reshape(len(sketches), -1) / step**2
    means -= means.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(means / np.where(lengths > 1, lengths, 1), np.float32)


def likeness(ones: NDArray[np.uint8], others: NDArray[np.uint8]) -> Likeness:
    """How alike the pairs of ``ones`` and ``others`` are, both (n, SIDE, SIDE, 3)."""
    found = [
        _likeness(_planes(ones[start : start + CHUNK]), _planes(others[start : start + CHUNK]))
        for start in range(0, len(ones), CHUNK)
    ]
    return Likeness(*map(np.concatenate, zip(*found))) if found else Likeness(*np.zeros((2, 0), np.float32))


def _planes(sketches: NDArray[np.uint8]) -> Array:
    return np.ascontiguousarray(sketches.transpose(0, 3, 1, 2), np.float32) / 255


def _likeness(ones: Array, others: Array) -> Likeness:
    """Of planes (n, 3, SIDE, SIDE): the whole of one with every box of the other, and the other way round."""
    fits, pairs = [], []
    for cut, whole in ((ones, others), (others, ones)):
        fit, rows, columns = _best_box(cut.mean(axis=1), whole.mean(axis=1))
        fits.append(fit)
        pairs.append((rows[:, None] @ cut @ columns[:, None].transpose(0, 1, 3, 2), PARTS[0] @ whole @ PARTS[0].T))
    which = np.argmax(fits, axis=0)
    first, second = (np.where(which[:, None, None, None], *planes) for planes in ((b, a) for a, b in zip(*pairs)))
    details = [planes - MEAN @ planes @ MEAN.T for planes in (first, second)]
    return Likeness(_similar(first, second), _alike(*details))


def _best_box(cut: Array, whole: Array) -> tuple[Array, Array, Array]:
    """Which box of ``cut`` correlates best with all of ``whole``, both (n, SIDE, SIDE).

    Returns the correlations (n,), and what scales the rows and the columns of that box: (n, INNER, SIDE) each.
    """
    target = PARTS[0] @ whole @ PARTS[0].T
    target -= target.mean(axis=(1, 2), keepdims=True)
    # Of each box scaled the product with the target, without a need for the box itself: it is the sum over
    # (rows · cut) * (target · columns).
    rows = (PARTS.reshape(-1, SIDE) @ cut).reshape(len(cut), BOXES, -1)
    columns = (target[:, None] @ PARTS).reshape(len(cut), BOXES, -1)
    products = (rows @ columns.transpose(0, 2, 1)).reshape(len(cut), -1) / INNER**2
    # The variance of a box before it is scaled is near enough to choose by.
    squares, means = (((WEIGHTS @ plane) @ WEIGHTS.T).reshape(len(cut), -1) for plane in (cut**2, cut))
    spreads = np.maximum(squares - means**2, 0) * (target**2).mean(axis=(1, 2))[:, None]
    fit = (products + STEADY_SPREAD) / (np.sqrt(spreads) + STEADY_SPREAD)
    best = fit.argmax(axis=1)
    return fit.max(axis=1), PARTS[best // BOXES], PARTS[best % BOXES]


def _similar(ones: Array, others: Array) -> Array:
    """The structural similarity of each pair (n, …) as one window: how light, and how it varies (Wang et al. 2004)."""
    one, other, first, second, both = _moments(ones, others)
    light = (2 * one * other + STEADY_MEAN) / (one**2 + other**2 + STEADY_MEAN)
    return np.asarray(light * (2 * both + STEADY_SPREAD) / (first + second + STEADY_SPREAD))


def _alike(ones: Array, others: Array) -> Array:
    """The correlation of each pair (n, …)."""
    _, _, first, second, both = _moments(ones, others)
    return np.asarray((both + STEADY_DETAIL) / (np.sqrt(first * second) + STEADY_DETAIL))


def _moments(ones: Array, others: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Of each pair (n, …): both means, both variances, the covariance."""
    ones, others = ones.reshape(len(ones), -1), others.reshape(len(others), -1)
    one, other = ones.mean(axis=1), others.mean(axis=1)
    ones, others = ones - one[:, None], others - other[:, None]
    return one, other, (ones**2).mean(axis=1), (others**2).mean(axis=1), (ones * others).mean(axis=1)
