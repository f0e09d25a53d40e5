"""The report's section on the audit: what looks wrong, with thumbnails, and the map of the features."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.classifier.scores import Labels
from stages.common.settings import params
from stages.common.settings.layout import MANIFEST
from stages.dataset import manifest
from stages.dataset.sources import table
from stages.dataset.sources.files.places import within
from stages.findings import finding, plane
from stages.findings.finding import AuditMetrics, Finding
from stages.findings.sketches import SIDE
from stages.report.pictures import small

# Findings of a kind that are shown, and the side of their thumbnails in pixels.
SHOWN, THUMBNAIL = 8, 120

# What a kind is called, and what it means.
SAID = {
    "label": ("Probably mislabelled", "Heads that never saw these images take them for another class."),
    "leak": (
        "Leaks",
        "Nearly the same picture is in an earlier subset: the test, or the choice of the epoch, knows it.",
    ),
    "conflict": ("Conflicts", "Nearly the same picture under two classes."),
    "duplicate": ("Duplicates", "Nearly the same picture twice in one subset."),
    "outlier": ("Outliers", "Unlike all others, those of their class too."),
}
# Classes up to which the map has a legend; all have a colour.
LEGEND = 12


class Shown(NamedTuple):
    """A finding with thumbnails, JPEG files: of the image, and of its twin or a typical image of the suggested class.

    None where there is none to be had.
    """

    found: Finding
    picture: Optional[bytes]
    other: Optional[bytes]


class Kind(NamedTuple):
    """All findings of a kind: the first with thumbnails, and the paths of all."""

    name: str
    title: str
    meaning: str
    shown: list[Shown]
    paths: list[str]


class Honest(NamedTuple):
    """Top-1 accuracy of the test ``images`` that are left where ``leaked`` ones are left out."""

    top1: float
    images: int
    leaked: int


class Plane(NamedTuple):
    """The map: SVG paths of dots by class, of rings around the mistakes; what the page says about each point.

    points: for each (x, y, class, predicted class or -1, path). tiles: the pictures, a WebP file.
    """

    span: int
    dots: list[str]
    rings: str
    points: list[tuple[int, int, int, int, str]]
    tiles: bytes
    columns: int
    side: int
    hues: list[int]


@dataclass(frozen=True)
class Section:
    """counts: of each kind, whatever is shown. honest: None where no test image is a leak."""

    counts: AuditMetrics
    kinds: list[Kind]
    honest: Optional[Honest]
    plane: Optional[Plane]


def gather(
    chosen: params.Dataset, classes: Sequence[str], paths: Sequence[str], labels: Labels, predicted: Labels
) -> Optional[Section]:
    """The section; None where there was no audit. paths, labels, predicted: of the test images.

    Raises InputError where what ``audit`` and ``map`` left is missing or damaged.
    """
    counts = AuditMetrics.load(finding.COUNTS, "run `dvc repro -f audit`")
    if counts.images is None:
        return None
    found = finding.read()
    by_kind = {kind: [each for each in found if each.kind == kind] for kind in finding.KINDS}
    first = [each for its in by_kind.values() for each in its[:SHOWN]]
    pictures = _pictures({path for each in first for path in (each.path, each.other) if path}, chosen)
    kinds = [
        Kind(
            kind,
            *SAID[kind],
            [Shown(each, pictures.get(each.path), pictures.get(each.other)) for each in its[:SHOWN]],
            [each.path for each in its],
        )
        for kind, its in by_kind.items()
    ]
    leaked = {each.path for each in by_kind["leak"]}
    left = np.array([path not in leaked for path in paths])
    mistakes = {path: int(taken) for path, taken, label in zip(paths, predicted, labels) if taken != label}
    return Section(counts, kinds, _honest(left, predicted == labels), _plane(len(classes), mistakes))


def _honest(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> Optional[Honest]:
    if left.all() or not left.any():
        return None
    return Honest(float(right[left].mean()), int(left.sum()), int((~left).sum()))


def _pictures(paths: Iterable[str], chosen: params.Dataset) -> dict[str, Optional[bytes]]:
    """{path: thumbnail, or None where the image is not to be had}."""
    root = table.of(chosen).root(chosen)
    return {
        row.path: small(within(root, row.path, row.size, row.offset), bytes.fromhex(row.sha256), THUMBNAIL)
        for row in manifest.find(MANIFEST, set(paths))
    }


def _plane(classes: int, mistakes: Mapping[str, int]) -> Optional[Plane]:
    found, tiles = plane.load()
    if not found.paths:
        return None
    dots, rings, points = [""] * classes, "", []
    for x, y, label, path in zip(found.x, found.y, found.labels, found.paths):
        dots[label] += f"M{x} {y}h0"
        taken = mistakes.get(path, -1)
        if taken >= 0:
            rings += f"M{x} {y}h0"
        points.append((x, y, label, taken, path))
    # Neighbours in the list of classes are far apart on the circle of colours: by the golden angle.
    hues = [round(label * 360 / classes if classes <= LEGEND else label * 137.508) % 360 for label in range(classes)]
    return Plane(plane.SPAN, dots, rings, points, tiles, plane.COLUMNS, SIDE, hues)


def data_uri(kind: str, data: bytes) -> str:
    """``data`` as an address that needs no network; kind: "jpeg" or "webp"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
