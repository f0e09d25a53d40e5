"""Which image goes into which subset: by class, by seed; copies of an image and whole groups together."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

from stages.common.errors import InputError
from stages.common.settings.layout import SUBSETS


def assign(
    digests: Mapping[str, Collection[str]],
    fractions: Sequence[float],
    seed: int,
    groups: Iterable[Sequence[str]] = (),
    given: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Assigns every distinct image to a subset: returns {digest: subset}.

    digests: {class: digests of the bytes of its distinct images}; fractions: of train, valid, test.
    groups: distinct images that belong together, two or more in each; given: {digest: subset} of those that are not to
    be drawn, whole groups.

    Whole groups are dealt out first, the largest first, each to the subset that lacks most of its classes: a class of
    which no group holds another class too has in each subset its fraction, to within its largest group. Then within a
    class the images that are left are put in the order of a keyed hash of their digests and counted off, which fills
    up what is missing. So a copy is where its original is, names do not matter, and a new image moves at most the
    images at the borders.
    Raises InputError naming a class that is not in all three subsets.
    """
    subsets = dict(given)
    _deal(digests, fractions, seed, [group for group in groups if group[0] not in subsets], subsets)
    for name, images in sorted(digests.items()):
        # An image that another class holds too has its place already.
        places = _places(len(images), fractions, Counter(subsets[digest] for digest in images if digest in subsets))
        for digest in _in_order(images, seed):
            if digest not in subsets:
                subsets[digest] = next(s for s in SUBSETS if places[s] > 0)
                places[subsets[digest]] -= 1
        missing = set(SUBSETS).difference(subsets[digest] for digest in images)
        if missing:
            raise InputError(
                f"class {name!r} has {len(images)} distinct image{'s' * (len(images) > 1)}, too few for all of train, "
                f"valid and test (none is left for {min(missing, key=SUBSETS.index)}): add images or remove the class"
                + (", or let go of some groups or given splits" if given or groups else "")
            )
    return subsets


def _places(count: int, fractions: Sequence[float], taken: Mapping[str, int]) -> dict[str, int]:
    """How many of a class's ``count`` images are still to be drawn for each subset, of which ``taken`` have theirs.

    A subset that has more than its share gets none, and the others theirs of what is left.
    """
    left = [share - taken.get(subset, 0) for subset, share in zip(SUBSETS, quotas(count, fractions))]
    if min(left) < 0:
        total = sum(share for share in left if share > 0)
        lacking = [i for i, share in enumerate(left) if share > 0]
        shares = dict(zip(lacking, quotas(sum(left), [left[i] / total for i in lacking])))
        left = [shares.get(i, 0) for i in range(len(left))]
    places = dict(zip(SUBSETS, left))
    for subset in SUBSETS:
        most = max(places, key=lambda other: (places[other], taken.get(other, 0)))
        if not places[subset] + taken.get(subset, 0) and places[most] and places[most] + taken.get(most, 0) > 1:
            places[most] -= 1
            places[subset] += 1
    return places


def _deal(
    digests: Mapping[str, Collection[str]],
    fractions: Sequence[float],
    seed: int,
    groups: Sequence[Sequence[str]],
    subsets: dict[str, str],
) -> None:
    """Deals out ``groups``: adds their images to ``subsets``, which holds those that are not to be drawn."""
    if not groups:
        return
    classes: dict[str, list[str]] = defaultdict(list)
    places, lacking = {}, {}
    for name, images in digests.items():
        taken = Counter(subsets[digest] for digest in images if digest in subsets)
        places[name], lacking[name] = _places(len(images), fractions, taken), set(SUBSETS).difference(taken)
        for digest in images:
            classes[digest].append(name)
    counts = [Counter(name for digest in group for name in classes[digest]) for group in groups]
    in_groups = set(chain.from_iterable(groups))
    # What is left to be dealt of each class: its groups, and its images in none.
    units = Counter(chain.from_iterable(counts))
    units.update(
        name for digest, names in classes.items() if digest not in in_groups and digest not in subsets for name in names
    )
    keys = [_key(min(group), seed) for group in groups]
    for i in sorted(range(len(groups)), key=lambda i: (-len(groups[i]), keys[i])):
        possible = list(SUBSETS)
        for name in sorted(counts[i]):
            # Every subset is to have some of the class.
            if units[name] <= len(lacking[name]):
                possible = [subset for subset in possible if subset in lacking[name]] or possible
        need = {
            subset: sum(count * places[name][subset] / len(digests[name]) for name, count in counts[i].items())
            for subset in possible
        }
        chosen = max(possible, key=lambda subset: need[subset])
        subsets.update(dict.fromkeys(groups[i], chosen))
        for name, count in counts[i].items():
            places[name][chosen] -= count
            lacking[name].discard(chosen)
            units[name] -= 1


def unmet(
    digests: Mapping[str, Collection[str]], subsets: Mapping[str, str], fractions: Sequence[float]
) -> dict[str, tuple[list[int], list[int]]]:
    """The classes whose images could not be shared out by ``fractions``: {class: (images by them, images as they are)}.

    digests: as for :func:`assign`, and subsets: what it returned. Those by train, valid and test.
    """
    found = {}
    for name, images in sorted(digests.items()):
        counts = Counter(subsets[digest] for digest in images)
        wanted, got = quotas(len(images), fractions), [counts[subset] for subset in SUBSETS]
        if wanted != got:
            found[name] = (wanted, got)
    return found


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
    return sorted(digests, key=lambda digest: _key(digest, seed))


def _key(digest: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {digest}".encode()).digest()


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
