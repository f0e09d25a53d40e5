"""The tables about a test that DVC's plots draw, and spreadsheets read."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.classifier.scores import DIGITS, Labels
from stages.common.disk.files import write_csv
from stages.common.settings.layout import METRICS
from stages.report.figures import Probabilities

PREDICTIONS, CLASSES = METRICS / "predictions.csv", METRICS / "classes.csv"


def write_predictions(
    paths: Sequence[str], classes: Sequence[str], labels: Labels, probabilities: Probabilities
) -> None:
    """predictions.csv: a row for each test image, in the order of its list.

    Its path as in the manifest, its class, the class it was taken for, and the probabilities of both.
    """
    predicted, rows = probabilities.argmax(axis=1), np.arange(len(labels))
    shares = [probabilities[rows, which].round(DIGITS).tolist() for which in (predicted, labels)]
    names = [[classes[label] for label in which] for which in (labels, predicted)]
    heading = ["path", "actual", "predicted", "probability", "actual_probability"]
    write_csv(PREDICTIONS, heading, zip(paths, *names, *shares))


def write_classes(classes: Sequence[str], accuracies: NDArray[np.float64]) -> None:
    """classes.csv: the accuracy of each class, nothing for one without images."""
    cells = ("" if np.isnan(accuracy) else round(accuracy, DIGITS) for accuracy in accuracies.tolist())
    write_csv(CLASSES, ["class", "accuracy"], zip(classes, cells))
