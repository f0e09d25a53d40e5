"""Pairs of images that are nearly the same picture: found by their features, confirmed on their pixels."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.common.settings import params
from stages.dataset.groups import leaders
from stages.findings import looking, sketches
from stages.findings.gathered import Images
from stages.findings.neighbours import Neighbours

# Neighbours whose cosine is less are not looked at.
LEAST = 0.2
# What is counted where it could not be confirmed: as near as most copies are to their originals.
NEAR = 0.9
# Pairs whose coarse versions are less alike are not compared any further.
COARSE = 0.6
# The least likeness of twins; see docs/audit.md for what it was measured on.
ALIKE = 0.85
# Images with a shorter side than this, in pixels, have to be more alike: there is less to tell them apart by.
FULL_SIDE = 32
# Pairs looked at coarsely at a time.
CHUNK = 16_384


class Twins(NamedTuple):
    """same: of each row the first row with the same bytes. near: {such a row: {another such row: likeness}}.

    sets: of each row a number that all have that are the same picture, directly or by way of others.
    unconfirmed: how many pairs are near by their features, but their images are not at hand.
    """

    same: NDArray[np.int64]
    near: dict[int, dict[int, float]]
    sets: NDArray[np.int64]
    unconfirmed: int

    def of(self, row: int) -> dict[int, float]:
        """The first rows of the pictures that are nearly the same as that of ``row``, and how alike they are."""
        return self.near.get(int(self.same[row]), {})


def find(images: Images, neighbours: Neighbours, runtime: params.Runtime) -> Twins:
    """The twins among ``images``."""
    same = _first(images.digests)
    pairs, similarities = _candidates(neighbours, same)
    rows = np.unique(pairs)
    seen = looking.look([images.places[row] for row in rows], [images.digests[row] for row in rows], runtime)
    places = np.searchsorted(rows, pairs)
    there = (seen.sides[places] > 0).all(axis=1)
    near: dict[int, dict[int, float]] = defaultdict(dict)
    for one, other, likeness in _confirmed(places[there], pairs[there], seen):
        near[one][other] = near[other][one] = likeness
    bound = leaders([(one, other) for one, others in near.items() for other in others])
    sets = np.array([bound.get(row, row) for row in same.tolist()], np.int64)
    return Twins(same, dict(near), sets, int((similarities[~there] >= NEAR).sum()))


def _first(digests: Iterable[bytes]) -> NDArray[np.int64]:
    """Of each row the first one with the same digest."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(digest, row) for row, digest in enumerate(digests)], np.int64)


def _candidates(neighbours: Neighbours, same: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of neighbours (pairs, 2) with different bytes, each once, the lower row first; and their cosines."""
    asking, *place = np.nonzero(neighbours.similarities >= LEAST)
    ends = np.stack([same[asking], same[neighbours.rows[(asking, *place)]]])
    similarities = neighbours.similarities[(asking, *place)]
    numbers, index = np.unique(ends.min(axis=0) * len(same) + ends.max(axis=0), return_index=True)
    pairs = np.stack(np.divmod(numbers, len(same)), axis=1)
    different = pairs[:, 0] != pairs[:, 1]
    return pairs[different], similarities[index][different]


def _confirmed(
    places: NDArray[np.int64], pairs: NDArray[np.int64], seen: looking.Seen
) -> Iterator[tuple[int, int, float]]:
    """Those of ``pairs`` (n, 2) that are alike, and how much; places: of their sketches in ``seen``."""
    versions, picture = sketches.coarse(seen.sketches), _first(hashlib.sha256(each).digest() for each in seen.sketches)
    for start in range(0, len(pairs), CHUNK):
        one, other = places[start : start + CHUNK].T
        like = np.flatnonzero(np.einsum("ij,ij->i", versions[one], versions[other]) >= COARSE)
        one, other = one[like], other[like]
        # Files that differ in what is beside the picture alone make many pairs of the same two sketches.
        numbers, which = np.unique(picture[one] * len(picture) + picture[other], return_inverse=True)
        whole, detail = sketches.likeness(*(seen.sketches[rows] for rows in np.divmod(numbers, len(picture))))
        share = np.minimum(1, np.minimum(seen.sides[one], seen.sides[other]) / FULL_SIDE)
        found = (whole * detail)[which]
        for row in np.flatnonzero(found >= 1 - (1 - ALIKE) * share**2):
            first, second = pairs[start + like[row]].tolist()
            yield first, second, float(found[row])
