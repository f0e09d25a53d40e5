"""Which image goes into which subset: by class, by seed, and copies of an image together."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from stages.common.errors import InputError
from stages.common.layout import SUBSETS


def assign(digests: Mapping[str, Collection[str]], fractions: Sequence[float], seed: int) -> dict[str, str]:
    """Assigns every distinct image to a subset: returns {digest: subset}.

    digests: {class: digests of the bytes of its distinct images}; fractions: of train, valid, test.

    Within a class the images are put in the order of a keyed hash of their digests and counted off. So a copy is where
    its original is, names do not matter, and a new image moves at most the images at the borders.
    Raises InputError naming a class too small to be in all three subsets.
    """
    subsets: dict[str, str] = {}
    for name, images in sorted(digests.items()):
        places = Counter(dict(zip(SUBSETS, quotas(len(images), fractions))))
        # An image that another class holds too has its place already.
        places.subtract(subsets[digest] for digest in images if digest in subsets)
        for digest in _in_order(images, seed):
            if digest not in subsets:
                subsets[digest] = next(s for s in SUBSETS if places[s] > 0)
                places[subsets[digest]] -= 1
        missing = set(SUBSETS).difference(subsets[digest] for digest in images)
        if missing:
            raise InputError(
                f"class {name!r} has {len(images)} distinct image{'s' * (len(images) > 1)}, too few for all of train, "
                f"valid and test (none is left for {min(missing, key=SUBSETS.index)}): add images or remove the class"
            )
    return subsets


def beyond(
    digests: Mapping[str, Collection[str]], subsets: Mapping[str, str], per_class: int, seed: int
) -> dict[str, set[str]]:
    """The training images that are too many where a class may have ``per_class`` distinct ones: {class: digests}.

    digests, seed: as for :func:`assign`, and subsets: what it returned.

    Those that a class keeps are the first in the order in which the class was counted off: what a smaller number
    keeps, a larger one keeps too.
    """
    return {
        name: set([digest for digest in _in_order(images, seed) if subsets[digest] == "train"][per_class:])
        for name, images in digests.items()
    }


def _in_order(digests: Iterable[str], seed: int) -> list[str]:
    return sorted(digests, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())


def quotas(count: int, fractions: Sequence[float]) -> list[int]:
    """Shares ``count`` images out by ``fractions`` (largest remainder), at least one each where there are enough."""
    exact = [count * fraction for fraction in fractions]
    shares = [int(e) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    for i, share in enumerate(shares):
        if share == 0 and count >= len(shares):
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


def duplicates(digests: Sequence[str]) -> list[list[int]]:
    """The rows of the images that are copies of one another, a list for each such image. digests: by row."""
    counts = Counter(digests)
    copies: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        if counts[digest] > 1:
            copies[digest].append(row)
    return list(copies.values())
