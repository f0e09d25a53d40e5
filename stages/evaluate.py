"""evaluate: how the trained head does on images that training never saw."""

import csv

import numpy as np

from stages.backend import devices
from stages.classifier import head
from stages.classifier.scores import per_class_accuracy, score, softmax
from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import read_json, replacing, write_json
from stages.common.layout import CURVES, IMAGES, METRICS, SPLIT, WEIGHTS
from stages.dataset import lists
from stages.dataset.decode import decode
from stages.features import records
from stages.report import page as report


def main():
    given = params.load()
    context = devices.context(devices.resolve(given.runtime.devices, "auto")[0])
    network, about = head.load(context)
    features, labels = records.read("test")
    logits = network.logits(features)

    classes = about["classes"]
    predicted = logits.argmax(axis=1)
    by_class = per_class_accuracy(predicted, labels, len(classes))
    scores = {**score([logits], labels), "mean_class_accuracy": float(np.nanmean(by_class))}
    metrics = {"images": len(labels), **{name: round(value, 6) for name, value in scores.items()}}
    write_csv("confusion.csv", ["actual", "predicted"], ((classes[a], classes[p]) for a, p in zip(labels, predicted)))
    accuracies = ["" if np.isnan(accuracy) else round(accuracy, 6) for accuracy in by_class.tolist()]
    write_csv("classes.csv", ["class", "accuracy"], zip(classes, accuracies))
    write_json(METRICS / "test.json", metrics)
    write_report(given, about, metrics, labels, logits)
    print("{images} test images: top-1 {top1:.4f}, top-5 {top5:.4f}".format(**metrics))


def write_report(given, about, metrics, labels, logits):
    """Writes ``metrics/report.html`` from all that the stages before this one left.

    given: the params. about: what ``head.json`` says. metrics: the test's. labels, logits: of the test images.
    """
    probabilities = softmax(logits)
    shown = {*report.surest_mistakes(probabilities, labels), *report.least_sure(probabilities, labels)}
    report.write(
        METRICS / "report.html",
        metrics=metrics,
        classes=about["classes"],
        labels=labels,
        probabilities=probabilities,
        pictures=pictures(shown, labels),
        curves={name: {subset: curve(subset, name) for subset in ("train", "valid")} for name in ("loss", "top1")},
        training=read_json(METRICS / "train.json"),
        featurizing=read_json(METRICS / "featurize.json"),
        made_of=made_of(given, about, len(labels)),
    )


def write_csv(name, heading, rows):
    """Writes a table to ``metrics/<name>``."""
    with replacing(METRICS / name) as path, open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heading, *rows])


def curve(subset, name):
    """The values of a training curve by epoch, as DVCLive left them."""
    with open(CURVES / "plots" / "metrics" / subset / f"{name}.tsv", encoding="utf-8", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file, delimiter="\t")]


def pictures(shown, labels):
    """{row: (``<class>/<file>``, JPEG bytes)} for the rows of the test set in ``shown``."""
    rows = lists.read("test")
    if [row.label for row in rows] != labels.tolist():
        raise InputError(f"the features are not those of {SPLIT}/test.lst: run `dvc repro`")
    paths = {row: rows[row].path for row in shown}
    return {row: (path, report.thumbnail(decode((IMAGES / path).read_bytes(), path))) for row, path in paths.items()}


def made_of(given, about, images):
    """What the report says the classifier was made of: {heading: {name: value}}."""
    weights = read_json(WEIGHTS / "weights.json")
    counts = {**about["images"], "test": images}
    sections = {"dataset": given.dataset, "split": given.split}
    return {
        "Data": {
            **{f"{name}.{key}": value for name, values in sections.items() for key, value in values},
            "classes": len(about["classes"]),
            "images": ", ".join(f"{count:,} {subset}" for subset, count in counts.items()),
        },
        "Backbone": {
            "network": about["backbone"],
            "weights": weights["source"],
            "SHA-256": weights["source_sha256"][:12],
            "parameters": f"{weights['parameters']:,}",
        },
        "Features": {key: about[key] for key in ("cut", "resize", "precision", "dim", "dtype")},
        "Training": about["train"],
    }


if __name__ == "__main__":
    run(main)
