"""Resizing, normalising and laying out in one pass over an image: machine code that Numba makes of this module.

The same bytes as Pillow and ``pixels.normalise`` give, in a fourth of the time: the same fixed-point weights, added up
in the same order (Pillow's ``Resample.c``: across, rounded to 8 bits, then down), but of many pixels at once.

To import this takes half a second, and two more where no copy of this code has been imported before.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from stages.common.compiled import njit

# Bits behind the point of a weight: with 8 of a pixel, a sum with its overshoot fits into 32.
BITS = 32 - 8 - 2
HALF = np.int32(1 << (BITS - 1))

# Rows that go across together, laid on their side: what is at work then stays in the nearest caches.
ROWS = 64

BYTE, GREEN, BLUE = np.uint32(255), np.uint32(8), np.uint32(16)

Packed = NDArray[np.uint32]  # (height, width); a pixel's bytes are red, green, blue and one that is none
Firsts = NDArray[np.int32]  # (n,): for each of n pixels to make, the first of those that it is made of
Weights = NDArray[np.int32]  # (n, m): the weights of these from there on
Sums = NDArray[np.int32]  # (n,), of one colour


@njit("f8(f8, b1)")
def _filter(x: float, cubic: bool) -> float:
    """The weight of a pixel at a distance of ``x``: a triangle, or Keys's cubic (1981) with a = -0.5."""
    x = abs(x)
    if not cubic:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


@njit("Tuple((i4[::1], i4[:, ::1]))(i8, f4, f4, i8, b1, b1)")
def _weights(
    given: int, start: np.float32, end: np.float32, size: int, cubic: bool, backwards: bool
) -> tuple[Firsts, Weights]:
    """How ``size`` pixels are made of those from ``start`` to ``end`` of a side that has ``given``."""
    # The difference in 32 bits, as Pillow takes it.
    scale = float(end - start) / size
    stretch = max(scale, 1.0)
    support = stretch * (2.0 if cubic else 1.0)
    count = min(math.ceil(support) * 2 + 1, given)
    firsts, weights = np.empty(size, np.int32), np.zeros((size, count), np.int32)
    exact = np.empty(count)
    for i in range(size):
        centre = start + (i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        found = min(int(centre + support + 0.5), given) - low
        total = 0.0
        for k in range(found):
            exact[k] = _filter(float(k + low - centre + 0.5) * (1.0 / stretch), cubic)
            total += exact[k]
        place = size - 1 - i if backwards else i
        firsts[place] = min(low, given - count)
        for k in range(found):
            weight = exact[k] / total if total != 0.0 else exact[k]
            weights[place, low - firsts[place] + k] = int(math.copysign(0.5, weight) + weight * (1 << BITS))
    return firsts, weights


@numba.njit(inline="always")
def _sum(red: Sums, green: Sums, blue: Sums, count: int, weights: Weights, row: int, lines: Packed, first: int) -> None:
    """Sets ``count`` sums, by colour, to those of the ``lines`` from ``first`` on, times the weights in ``row``."""
    for i in range(count):
        red[i] = green[i] = blue[i] = HALF
    for k in range(weights.shape[1]):
        # Behind the last line there is none: without a weight it is not read.
        weight, pixels = weights[row, k], lines[first + k]
        if weight:
            for i in range(count):
                pixel = pixels[i]
                red[i] += weight * np.int32(pixel & BYTE)
                green[i] += weight * np.int32((pixel >> GREEN) & BYTE)
                blue[i] += weight * np.int32((pixel >> BLUE) & BYTE)


@numba.njit(inline="always")
def _rounded(total: int) -> int:
    return min(max(total >> BITS, 0), 255)


@njit("void(Array(uint32, 2, 'C', True), i8, i8, i4[::1], i4[:, ::1], u4[:, ::1])")
def _across(image: Packed, top: int, left: int, firsts: Firsts, weights: Weights, out: Packed) -> None:
    """Resizes the rows of ``image`` from ``top`` on, and its columns from ``left`` on, to those of ``out``."""
    height, width = out.shape
    columns = min(max(firsts[0], firsts[-1]) + weights.shape[1], image.shape[1]) - left
    lying, resized = np.empty((columns, ROWS), np.uint32), np.empty((width, ROWS), np.uint32)
    red, green, blue = np.empty(ROWS, np.int32), np.empty(ROWS, np.int32), np.empty(ROWS, np.int32)
    for row in range(0, height, ROWS):
        rows = min(ROWS, height - row)
        for i in range(rows):
            for x in range(columns):
                lying[x, i] = image[top + row + i, left + x]
        for x in range(width):
            _sum(red, green, blue, ROWS, weights, x, lying, firsts[x] - left)
            for i in range(ROWS):
                r, g, b = np.uint32(_rounded(red[i])), np.uint32(_rounded(green[i])), np.uint32(_rounded(blue[i]))
                resized[x, i] = r | g << GREEN | b << BLUE
        for i in range(rows):
            for x in range(width):
                out[row + i, x] = resized[x, i]


@njit("void(Array(uint32, 2, 'C', True), f4[::1], b1, b1, f4[::1], f4[::1], f4[:, :, ::1])", nogil=True)
def resample(
    image: Packed,
    box: NDArray[np.float32],
    cubic: bool,
    rotated: bool,
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Writes ``box`` of ``image``, resized, into ``out``, each colour times ``scale`` plus ``shift``.

    box: left, top, right, bottom. cubic: whether to resize bicubically, or else bilinearly; antialiased both.
    rotated: by 180°. scale, shift: (3,). out: (3 or more, height, width), of which the first three are written.
    """
    height, width = out.shape[1:]
    firsts, weights = _weights(image.shape[1], box[0], box[2], width, cubic, rotated)
    upper, down = _weights(image.shape[0], box[1], box[3], height, cubic, rotated)
    left, top = min(firsts[0], firsts[-1]), min(upper[0], upper[-1])
    narrow = np.empty((max(upper[0], upper[-1]) + down.shape[1] - top, width), np.uint32)
    _across(image, top, left, firsts, weights, narrow)
    red, green, blue = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, np.int32)
    for y in range(height):
        _sum(red, green, blue, width, down, y, narrow, upper[y] - top)
        for x in range(width):
            out[0, y, x] = np.float32(_rounded(red[x])) * scale[0] + shift[0]
            out[1, y, x] = np.float32(_rounded(green[x])) * scale[1] + shift[1]
            out[2, y, x] = np.float32(_rounded(blue[x])) * scale[2] + shift[2]
