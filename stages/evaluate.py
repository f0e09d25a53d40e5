"""evaluate: how the trained head does on images that training never saw."""

import numpy as np

from stages.backend import devices
from stages.classifier import curves, trained
from stages.classifier.scores import TestMetrics, per_class_accuracy, score
from stages.common import params
from stages.common.errors import run
from stages.common.files import write_csv
from stages.common.layout import METRICS
from stages.features import records
from stages.report import contents, page
from stages.report.timing import Timing


def main() -> None:
    given = params.load()
    context = devices.context(devices.resolve(given.runtime.devices, 1)[0])
    head, info = trained.load(context)
    trained.check_features(info)
    classes = info.features.classes
    features, labels = records.read("test")
    logits = head.logits(features)

    predicted = logits.argmax(axis=1)
    by_class = per_class_accuracy(predicted, labels, len(classes))
    metrics = TestMetrics.of(score([logits], labels), by_class, len(labels))
    metrics.save(METRICS / "test.json")
    named = ((classes[actual], classes[taken_for]) for actual, taken_for in zip(labels, predicted))
    write_csv(METRICS / "confusion.csv", ["actual", "predicted"], named)
    accuracies = ("" if np.isnan(accuracy) else round(accuracy, 6) for accuracy in by_class.tolist())
    write_csv(METRICS / "classes.csv", ["class", "accuracy"], zip(classes, accuracies))
    course, work = curves.read(info.train.epochs), records.Work.load(records.WORK)
    Timing.of(work, course.seconds).save(METRICS / "timing.json")
    page.write(METRICS / "report.html", contents.gather(given, info, metrics, labels, logits, course, work))
    print(f"{metrics.images} test images: top-1 {metrics.top1:.4f}, top-5 {metrics.top5:.4f}")


if __name__ == "__main__":
    run(main)
