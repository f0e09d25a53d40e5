"""evaluate: how the trained head does on images that training never saw."""

from stages.classifier.model import curves, trained
from stages.classifier.scores import Kept, TestMetrics, per_class_accuracy, score, softmax
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.common.settings.layout import METRICS, SPLIT
from stages.dataset import lists
from stages.features.stored import records
from stages.report import contents, page, reliability, tables
from stages.report.timing import Timing


def main() -> None:
    given = params.load()
    head = trained.load()
    info = head.info
    trained.check_features(info)
    classes = info.features.classes
    features, labels = records.read("test")
    listed = lists.read("test")
    if [row.label for row in listed] != labels.tolist():
        raise InputError(f"the features are not those of {SPLIT}/test.lst: run `dvc repro`")
    paths = [row.path for row in listed]
    logits = head.logits(features)

    probabilities, predicted = softmax(logits), logits.argmax(axis=1)
    by_class = per_class_accuracy(predicted, labels, len(classes))
    ece = reliability.expected_error(reliability.bins(probabilities, labels))
    metrics = TestMetrics.of(score([logits], labels), by_class, ece, len(labels))
    metrics.save(METRICS / "test.json")
    tables.write_predictions(paths, classes, labels, probabilities)
    tables.write_classes(classes, by_class)
    kept, work = Kept.load(curves.KEPT, "run `dvc repro -f train`"), records.Work.load(records.WORK)
    course = curves.read(kept.epochs)
    Timing.of(work, course.seconds).save(METRICS / "timing.json")
    found = contents.gather(given, info, metrics, labels, probabilities, paths, course, work)
    page.write(METRICS / "report.html", found)
    print(f"{metrics.images} test images: top-1 {metrics.top1:.4f}, top-5 {metrics.top5:.4f}")


if __name__ == "__main__":
    run(main)
