"""Groups of images that belong together, so that none may be in two subsets: of one patient, of one scene."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from stages.common.errors import InputError
from stages.dataset import tables
from stages.dataset.manifest import Manifest
from stages.dataset.sources.source import Listed

Thing = TypeVar("Thing", bound=Hashable)


class Bound(NamedTuple):
    """groups: the digests of images that belong together, each group of two or more. given: {digest: subset}."""

    groups: list[list[str]]
    given: dict[str, str]


def read(path: Path) -> dict[str, str]:
    """{path of an image: its group} of a table with the columns ``path`` and ``group``, as ``dataset.groups`` names it.

    Raises InputError where it is not there or not as it should be, or has one path twice.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"dataset.groups: {path} cannot be read ({error.strerror})") from None
    groups: dict[str, str] = {}
    for row in tables.parsed(str(path), data, ["path", "group"]):
        if groups.setdefault(row["path"], row["group"]) != row["group"]:
            raise InputError(f"{path}, line {row['line']}: {row['path']} is in another group by an earlier line")
    return groups


def added(images: Sequence[Listed], groups: Mapping[str, str], name: str) -> list[Listed]:
    """``images`` in the ``groups`` of the file ``name`` too: what one or the other binds together is one group.

    Raises InputError where the file names an image that is not there.
    """
    paths = {image.path for image in images}
    stray = [path for path in groups if path not in paths]
    if stray:
        more = f" (and {len(stray) - 1} more like it)" if len(stray) > 1 else ""
        raise InputError(f"{name} names {stray[0]}, which the data set does not have{more}: take it out")
    # By its kind, as both may use the same names.
    leaders = _leaders(
        (("own", image.group), ("file", groups[image.path])) for image in images if image.group and image.path in groups
    )

    def group(image: Listed) -> str:
        one = ("own", image.group) if image.group else ("file", groups.get(image.path, ""))
        return leaders.get(one, one)[1] or ""

    return [image._replace(group=group(image)) for image in images]


def bound(images: Manifest) -> Bound:
    """What the manifest says of which images belong together, by their bytes and groups, and of the subsets of some.

    Raises InputError where images that belong together are given to two subsets.
    """
    if not any(images.groups) and not any(images.splits):
        return Bound([], {})
    leaders = _leaders((digest, f"group {group}") for digest, group in zip(images.digests, images.groups) if group)
    members: dict[str, dict[str, None]] = {}
    first: dict[str, int] = {}
    for row, (digest, subset) in enumerate(zip(images.digests, images.splits)):
        leader = leaders.get(digest, digest)
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


def _leaders(pairs: Iterable[tuple[Thing, Thing]]) -> dict[Thing, Thing]:
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
