"""What the report draws and counts, as values: pure functions of labels, probabilities and curves."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.classifier.model.grid import Rule, Trial
from stages.classifier.scores import Labels
from stages.report.reliability import Bin

Probabilities = NDArray[np.float64]  # (n, classes)
Confusion = NDArray[np.int64]  # (true class, predicted class): how many images

# Shades of the map: a cell's is the least whose bound is not below its share of the row.
SHADES = (0.02, 0.05, 0.1, 0.2, 1.0)

MISTAKES, UNSURE = 24, 12


class ClassRow(NamedTuple):
    """A class of ``images`` test images; accuracy and precision are None where nothing was counted.

    taken_for: the class it was most often mistaken for, so many ``times``; None where it never was.
    """

    name: str
    images: int
    accuracy: Optional[float]
    precision: Optional[float]
    taken_for: Optional[str]
    times: int


class Pair(NamedTuple):
    """``images`` of the class ``actual`` that were taken for ``predicted``, a ``share`` of their class."""

    actual: str
    predicted: str
    images: int
    share: float


class HeatMap(NamedTuple):
    """The confusion matrix's cells as SVG paths, a unit square each: one path for each of ``SHADES``.

    rows: what the page says about a cell: for each class its images, and {predicted class: images}.
    """

    right: list[str]
    wrong: list[str]
    rows: list[tuple[int, dict[int, int]]]


class Chart(NamedTuple):
    """Where the lines of a chart go, in a drawing of ``width`` by ``height``.

    left, right, top, bottom: of the area of the lines. x_ticks: (x, epoch). y_ticks: (y, what to write).
    lines: {name: (x, y) by epoch}; curves: their values. marked: an epoch, at marked_x.
    half: half the distance between two epochs, for areas that say their epoch's numbers.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: list[tuple[float, int]]
    y_ticks: list[tuple[float, str]]
    lines: dict[str, list[tuple[float, float]]]
    curves: Mapping[str, Sequence[float]]
    epochs: int
    marked: int
    marked_x: float
    half: float


class Cell(NamedTuple):
    """How a head did (see ``grid.Trial``). shade: from 0, the worst of its map, to 1, the best.

    best: whether it was chosen.
    """

    trial: Trial
    shade: float
    best: bool


class Grid(NamedTuple):
    """The heads that were trained: rows[learning rate][weight decay], both ascending."""

    rates: list[float]
    decays: list[float]
    rows: list[list[Cell]]


def grid(trials: Sequence[Trial], chosen: Rule) -> Grid:
    """The map of ``trials``, which have all combinations of some rates and decays; chosen: of the best."""
    by_rule = {trial.rule: trial for trial in trials}
    rates, decays = (sorted({rule[i] for rule in by_rule}) for i in (0, 1))
    # By rank: a head that learns too fast may have a loss a hundred times that of the others.
    ranks = {trial.rule: rank for rank, trial in enumerate(sorted(trials, key=lambda trial: -trial.valid_loss))}

    def cell(rule: Rule) -> Cell:
        return Cell(by_rule[rule], round(ranks[rule] / max(1, len(trials) - 1), 3), rule == chosen)

    return Grid(rates, decays, [[cell(Rule(rate, decay)) for decay in decays] for rate in rates])


class Column(NamedTuple):
    """A bin of the reliability diagram as a column of a drawing: its place and size, and what it says."""

    x: float
    y: float
    width: float
    height: float
    says: str


class Reliability(NamedTuple):
    """The reliability diagram in a square drawing with the side ``side``; columns: of the bins that have images.

    ticks: (place from the left or the bottom, what to write).
    """

    side: int
    left: int
    bottom: int
    columns: list[Column]
    ticks: list[tuple[float, str]]


def reliability(bins: Sequence[Bin]) -> Reliability:
    """How often the images of each bin of probability were right; where that is as often as said, on the diagonal."""
    side, left, bottom = 260, 46, 220
    span = bottom - 12
    width = span / len(bins)
    columns = []
    for number, (images, probability, accuracy) in enumerate(bins):
        if images:
            says = (
                f"{images:,} image{'s' if images != 1 else ''} with {probability:.1%} on the mean: {accuracy:.1%} right"
            )
            place = round(left + number * width, 1), round(bottom - accuracy * span, 1)
            columns.append(Column(*place, round(width - 1, 1), round(accuracy * span, 1), says))
    return Reliability(side, left, bottom, columns, [(round(t * span, 1), f"{t:g}") for t in (0, 0.25, 0.5, 0.75, 1)])


def surest_mistakes(probabilities: Probabilities, labels: Labels, most: int = MISTAKES) -> list[int]:
    """The rows that got a wrong class with the highest probability, surest first: at most ``most``."""
    return _first(probabilities.argmax(axis=1) != labels, -probabilities.max(axis=1), most)


def least_sure(probabilities: Probabilities, labels: Labels, most: int = UNSURE) -> list[int]:
    """The rows that got their class with the lowest probability, least sure first: at most ``most``."""
    return _first(probabilities.argmax(axis=1) == labels, probabilities.max(axis=1), most)


def _first(wanted: NDArray[np.bool_], order: NDArray[np.float64], most: int) -> list[int]:
    rows = np.flatnonzero(wanted)
    first: list[int] = rows[np.argsort(order[rows], kind="stable")][:most].tolist()
    return first


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> Confusion:
    """How many rows of each class (first axis) got each class (second)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_rows(classes: Sequence[str], confusion: Confusion) -> list[ClassRow]:
    """A row for each class, the least accurate first, those without images last."""
    rows = []
    for label, name in enumerate(classes):
        images, predicted = int(confusion[label].sum()), int(confusion[:, label].sum())
        right = int(confusion[label, label])
        others = confusion[label].copy()
        others[label] = 0
        rows.append(
            ClassRow(
                name,
                images,
                accuracy=right / images if images else None,
                precision=right / predicted if predicted else None,
                taken_for=classes[int(others.argmax())] if others.any() else None,
                times=int(others.max()),
            )
        )
    return sorted(rows, key=lambda row: math.inf if row.accuracy is None else row.accuracy)


def worst_pairs(classes: Sequence[str], confusion: Confusion) -> list[Pair]:
    """Every confusion, most images first, of equals the larger share of its class."""
    errors = confusion * (1 - np.eye(len(classes), dtype=confusion.dtype))
    counted = [
        (int(a), int(p), int(errors[a, p]), float(errors[a, p] / confusion[a].sum())) for a, p in np.argwhere(errors)
    ]
    ordered = sorted(counted, key=lambda pair: (-pair[2], -pair[3], pair[:2]))
    return [Pair(classes[a], classes[p], images, share) for a, p, images, share in ordered]


def heat_map(confusion: Confusion) -> HeatMap:
    """The confusion matrix of many classes."""
    images = confusion.sum(axis=1)
    right, wrong = [""] * len(SHADES), [""] * len(SHADES)
    for a, p in np.argwhere(confusion):
        shade = int(np.searchsorted(SHADES, confusion[a, p] / images[a]))
        (right if a == p else wrong)[shade] += f"M{p} {a}h1v1h-1z"
    rows = [(int(n), {int(p): int(row[p]) for p in np.flatnonzero(row)}) for n, row in zip(images, confusion)]
    return HeatMap(right, wrong, rows)


def chart(
    curves: Mapping[str, Sequence[float]],
    marked: int,
    floor: Optional[float] = None,
    ceiling: Optional[float] = None,
) -> Chart:
    """The chart of ``curves`` ({name: values by epoch, from epoch 1}) with the epoch ``marked``.

    floor, ceiling: ends of the axis, instead of what the values reach.
    """
    left, right, top, bottom, width, height = 46, 12, 12, 40, 480, 260
    values = [value for curve in curves.values() for value in curve]
    low = min(values) if floor is None else floor
    high = max(values) if ceiling is None else ceiling
    y_ticks = ticks(low, high if high > low else low + 1)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    epochs = max(map(len, curves.values()))

    def x(epoch: float) -> float:
        share = (epoch - 1) / (epochs - 1) if epochs > 1 else 0.5
        return round(left + share * (width - left - right), 1)

    def y(value: float) -> float:
        return round(top + (high - value) / (high - low) * (height - top - bottom), 1)

    return Chart(
        width,
        height,
        left,
        width - right,
        top,
        height - bottom,
        x_ticks=[(x(e), int(e)) for e in ticks(1, epochs) if e == int(e) and 1 <= e <= epochs] or [(x(1), 1)],
        y_ticks=[(y(tick), f"{tick:g}") for tick in y_ticks],
        lines={name: [(x(e), y(value)) for e, value in enumerate(curve, 1)] for name, curve in curves.items()},
        curves=curves,
        epochs=epochs,
        marked=marked,
        marked_x=x(marked),
        half=(width - left - right) / max(1, epochs - 1) / 2,
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers at equal steps that cover ``low`` to ``high``, ``about`` so many."""
    rough = max(high - low, 1e-9) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [round(i * step, 10) for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval for a share seen in ``count`` images: (low, high)."""
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)
