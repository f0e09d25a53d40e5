"""From what was found to the rows that the table has of it, one function for each kind of finding."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from stages.findings.finding import Finding
from stages.findings.gathered import Images
from stages.findings.mislabelled import Doubt
from stages.findings.outliers import Outlier
from stages.findings.twins import Twins

Key = TypeVar("Key", bound=Hashable)


def labels(images: Images, doubts: Iterable[Doubt], typical: Mapping[int, int]) -> Iterator[Finding]:
    """Probably mislabelled. typical: {class: a row that shows it}."""
    for row, suggested, score in doubts:
        yield Finding(
            "label",
            images.paths[row],
            images.classes[images.labels[row]],
            images.classes[suggested],
            score,
            images.paths[typical[suggested]],
        )


def leaks(images: Images, twins: Twins) -> Iterator[Finding]:
    """Images of which an earlier subset has nearly the same picture. The twin is in the earliest, and the likest."""
    subsets = images.subsets
    return _of_pairs("leak", images, twins, lambda row, other: bool(subsets[other] < subsets[row]))


def conflicts(images: Images, twins: Twins) -> Iterator[Finding]:
    """Images of which an earlier row has nearly the same picture, or the same bytes, under another class."""
    own = images.labels
    return _of_pairs("conflict", images, twins, lambda row, other: bool(other < row and own[other] != own[row]))


def _of_pairs(kind: str, images: Images, twins: Twins, wanted: Callable[[int, int], bool]) -> Iterator[Finding]:
    copies = _by(twins.same.tolist())
    # Of many copies of one image, one in each subset and class tells as much as all.
    shown = {
        first: list({(images.subsets[row], images.labels[row]): row for row in reversed(rows)}.values())
        for first, rows in copies.items()
    }
    for row in sorted(row for first in {*twins.near, *_several(copies)} for row in copies[first]):
        others = {int(twins.same[row]): 1.0, **twins.of(row)}
        found = [
            (int(images.subsets[other]), -alike, other)
            for first, alike in others.items()
            for other in shown[first]
            if wanted(row, other)
        ]
        if found:
            _, alike, other = min(found)
            yield _twin(kind, images, row, other, -alike)


def duplicates(images: Images, twins: Twins) -> Iterator[Finding]:
    """All but the first of each set of images that are the same picture, in one subset and class."""
    keys = zip(twins.sets.tolist(), images.subsets.tolist(), images.labels.tolist())
    for members in _several(_by(keys)).values():
        first, *others = members
        same = {int(twins.same[member]) for member in members}
        for row in others:
            alike = [likeness for other, likeness in twins.of(row).items() if other in same]
            again = sum(int(twins.same[member]) == int(twins.same[row]) for member in members) > 1
            # Bound to its set by way of others alone, it is at least as like as these are.
            yield _twin("duplicate", images, row, first, 1.0 if again else max(alike or twins.of(row).values()))


def outliers(images: Images, found: Iterable[Outlier]) -> Iterator[Finding]:
    """Unlike all others."""
    for row, score in found:
        yield Finding("outlier", images.paths[row], images.classes[images.labels[row]], "", score, "")


def _twin(kind: str, images: Images, row: int, other: int, alike: float) -> Finding:
    return Finding(
        kind, images.paths[row], images.classes[images.labels[row]], "", min(alike, 1.0), images.paths[other]
    )


def _by(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """The rows of each key."""
    rows: dict[Key, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return rows


def _several(rows: Mapping[Key, list[int]]) -> dict[Key, list[int]]:
    """Those of more than one row."""
    return {key: its for key, its in rows.items() if len(its) > 1}
