"""Points on a plane, near each other where the given ones are: t-SNE (van der Maaten and Hinton 2008).

With scikit-learn's settings, and a sixth of the time it takes: all pairs are looked at in each step, by machine code,
which is quicker for some thousand points than to approximate what is far.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from stages.common.compiled import compiled
from stages.common.cores import cores
from stages.common.progress import progress

Points = NDArray[np.float32]  # (n, dims), of 2 dims on the plane
Pairs = NDArray[np.float32]  # (n, n)

# Steps in all; in the first ones what attracts is stronger by the factor, and momentum is less.
STEPS, EARLY, EXAGGERATION = 500, 250, 12.0
MOMENTUM, EARLY_MOMENTUM = 0.8, 0.5
LEAST_GAIN, LEAST_RATE = 0.01, 50.0
# Of the first component, of points at the start.
SPREAD = 1e-4
# Halvings of the interval in which a point's precision lies.
HALVINGS = 64
# Rows that a core goes through at a time.
ROWS = 128


def embed(points: Points, perplexity: float) -> Points:
    """The place of each of ``points`` on the plane: (n, 2). perplexity: how many neighbours a point has, roughly.

    points: (n, dims), n at least 2, the dimension of the largest variance first. The same on any number of cores.
    """
    count = len(points)
    with ThreadPoolExecutor(cores(physical=True)) as pool:
        parts = [slice(start, start + ROWS) for start in range(0, count, ROWS)]
        likeness = np.empty((count, count), np.float32)
        list(pool.map(lambda rows: _likenesses(points, perplexity, rows.start, likeness[rows]), parts))
        likeness = (likeness + likeness.T) / np.float32(2 * count)
        attraction, repulsion, total = np.empty((count, 2)), np.empty((count, 2)), np.empty(count)

        def slopes(places: Points, factor: float) -> NDArray[np.float64]:
            across, down = np.ascontiguousarray(places.T)

            def work(rows: slice) -> None:
                _forces(across, down, rows.start, likeness[rows], attraction[rows], repulsion[rows], total[rows])

            list(pool.map(work, parts))
            return 4 * (factor * attraction - repulsion / total.sum())

        start = np.zeros((count, 2), np.float32)
        start[:, : points.shape[1]] = points[:, :2] * (SPREAD / (points[:, 0].std() or 1))
        return _descended(start, slopes)


def _descended(places: Points, slopes: Callable[[Points, float], NDArray[np.float64]]) -> Points:
    """Where ``places`` come to along their ``slopes``, with momentum.

    Each coordinate has a gain, which grows where it goes on in its direction (Jacobs 1988).
    """
    # Belkina et al. 2019.
    rate = max(len(places) / EXAGGERATION / 4, LEAST_RATE)
    moved, gain = np.zeros(places.shape), np.ones(places.shape)
    for step in progress(range(STEPS), desc="drawing the map", leave=False):
        early = step < EARLY
        slope = slopes(places, EXAGGERATION if early else 1.0)
        gain = np.maximum(np.where(slope * moved < 0, gain + 0.2, gain * 0.8), LEAST_GAIN)
        moved = (EARLY_MOMENTUM if early else MOMENTUM) * moved - rate * gain * slope
        places = (places + moved).astype(np.float32)
    return places


def _likenesses_formula(points: Points, perplexity: float, first: int, likeness: Pairs) -> None:
    """How likely each of some rows, from ``first`` on, takes every other as its neighbour: into (rows, n).

    By a normal distribution about it, as wide as makes the entropy that of ``perplexity`` neighbours.
    """
    wanted, count = np.log(perplexity), points.shape[0]
    distances = np.empty(count, np.float32)
    for row in range(likeness.shape[0]):
        own, found = first + row, likeness[row]
        nearest = np.float32(np.inf)
        for other in range(count):
            square = np.float32(0)
            for dim in range(points.shape[1]):
                square += (points[own, dim] - points[other, dim]) ** 2
            distances[other] = square
            if other != own:
                nearest = min(nearest, square)
        low, high, precision = 0.0, np.inf, 1.0
        for _ in range(HALVINGS):
            total = weighted = np.float32(0)
            for other in range(count):
                found[other] = np.exp(np.float32(-precision) * (distances[other] - nearest)) if other != own else 0
                total += found[other]
                weighted += found[other] * (distances[other] - nearest)
            entropy = np.log(total) + precision * weighted / total
            if abs(entropy - wanted) < 1e-5:
                break
            if entropy > wanted:
                low = precision
                precision = precision * 2 if high == np.inf else (low + high) / 2
            else:
                high = precision
                precision = (low + high) / 2
        for other in range(count):
            found[other] /= total


_likenesses = compiled(_likenesses_formula, fast=True)


def _forces_formula(
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    first: int,
    likeness: Pairs,
    attraction: NDArray[np.float64],
    repulsion: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    """What draws some rows, from ``first`` on, to all others, and what drives them away: into (rows, 2).

    across, down: the places of all. likeness: (rows, n). total: of each row the sum of what a t distribution gives.
    """
    one = np.float32(1)
    for row in range(likeness.shape[0]):
        x, y = across[first + row], down[first + row]
        near_x = near_y = far_x = far_y = all_of_it = np.float32(0)
        for other in range(across.shape[0]):
            dx, dy = x - across[other], y - down[other]
            heavy = one / (one + dx * dx + dy * dy)
            drawn, driven = likeness[row, other] * heavy, heavy * heavy
            near_x += drawn * dx
            near_y += drawn * dy
            far_x += driven * dx
            far_y += driven * dy
            all_of_it += heavy
        attraction[row, 0], attraction[row, 1] = near_x, near_y
        repulsion[row, 0], repulsion[row, 1] = far_x, far_y
        # Without the row itself.
        total[row] = all_of_it - one


_forces = compiled(_forces_formula, fast=True)
