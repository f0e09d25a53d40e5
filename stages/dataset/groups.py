"""Groups of images that belong together, so that none may be in two subsets: of one patient, of one scene."""

from collections.abc import Hashable, Iterable
from typing import NamedTuple, TypeVar

from stages.common.errors import InputError
from stages.dataset.manifest import Manifest

Thing = TypeVar("Thing", bound=Hashable)


class Bound(NamedTuple):
    """groups: the digests of images that belong together, each group of two or more. given: {digest: subset}."""

    groups: list[list[str]]
    given: dict[str, str]


def bound(images: Manifest) -> Bound:
    """What the manifest says of which images belong together, by their bytes and groups, and of the subsets of some.

    Raises InputError where images that belong together are given to two subsets.
    """
    if not any(images.groups) and not any(images.splits):
        return Bound([], {})
    joined = leaders((digest, f"group {group}") for digest, group in zip(images.digests, images.groups) if group)
    members: dict[str, dict[str, None]] = {}
    first: dict[str, int] = {}
    for row, (digest, subset) in enumerate(zip(images.digests, images.splits)):
        leader = joined.get(digest, digest)
        members.setdefault(leader, {})[digest] = None
        if subset and images.splits[first.setdefault(leader, row)] != subset:
            raise InputError(_contradiction(images, first[leader], row))
    given = {digest: images.splits[row] or "" for leader, row in first.items() for digest in members[leader]}
    return Bound([list(digests) for digests in members.values() if len(digests) > 1], given)


def _contradiction(images: Manifest, one: int, other: int) -> str:
    if images.digests[one] == images.digests[other]:
        why = "they are the same image (same bytes)"
    elif images.groups[one] and images.groups[one] == images.groups[other]:
        why = f"both are of the group {images.groups[one]!r}"
    else:
        why = "groups and copies bind them together"
    return (
        f"{images.paths[one]} is given to {images.splits[one]} and {images.paths[other]} to {images.splits[other]}, "
        f"but {why}: give both the same split"
    )


def leaders(pairs: Iterable[tuple[Thing, Thing]]) -> dict[Thing, Thing]:
    """One of each set of things that ``pairs`` bind together, directly or by way of others, by each of these things."""
    above: dict[Thing, Thing] = {}

    def top(thing: Thing) -> Thing:
        while (higher := above.setdefault(thing, thing)) != thing:
            above[thing] = thing = above[higher]
        return thing

    for one, other in pairs:
        one, other = top(one), top(other)
        above[other] = one
    return {thing: top(thing) for thing in above}
