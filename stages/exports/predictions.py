"""What is predicted of images, and how it is written: as a table, CSV or JSON."""

import csv
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from stages.common.disk.files import cell

# An image has one line, whatever is in its name.
_BREAKS = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


class Prediction(NamedTuple):
    """One class an image may be of."""

    name: str
    probability: float


def likeliest(probabilities: NDArray[Any], classes: Sequence[str], count: int) -> list[list[Prediction]]:
    """The ``count`` likeliest classes of each row of ``probabilities`` (n, classes), the likeliest first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        [Prediction(classes[label], float(row[label])) for label in labels] for row, labels in zip(probabilities, order)
    ]


def write_table(paths: Sequence[str], predictions: Sequence[Sequence[Prediction]], file: TextIO) -> None:
    """Writes a line for each image: its path, then each class and probability, in columns."""
    lines = [
        [path.translate(_BREAKS), *(text for name, p in row for text in (name, f"{p:.4f}"))]
        for path, row in zip(paths, predictions)
    ]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        file.write("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() + "\n")


def write_csv(paths: Sequence[str], predictions: Sequence[Sequence[Prediction]], file: TextIO) -> None:
    """Writes a row for each image and class: image, rank (from 1), class, probability; see :func:`files.cell`."""
    writer = csv.writer(file, lineterminator="\n")
    for path, row in zip(paths, predictions):
        writer.writerows([cell(path), rank, cell(name), f"{p:.6g}"] for rank, (name, p) in enumerate(row, 1))


def write_json(paths: Sequence[str], predictions: Sequence[Sequence[Prediction]], file: TextIO) -> None:
    """Writes a JSON object for each image, one per line."""
    for path, row in zip(paths, predictions):
        found = [{"class": name, "probability": p} for name, p in row]
        file.write(json.dumps({"image": path, "predictions": found}, ensure_ascii=False) + "\n")


class Format(NamedTuple):
    """A way to write predictions: the line before all of them, and what writes a block of them."""

    heading: str
    write: Callable[[Sequence[str], Sequence[Sequence[Prediction]], TextIO], None]


FORMATS = {
    "table": Format("", write_table),
    "csv": Format("image,rank,class,probability\n", write_csv),
    "json": Format("", write_json),
}
