"""evaluate: how the trained head does on images that training never saw."""

import csv

import numpy as np

from stages import devices, head, params, records
from stages.paths import METRICS, replacing, write_json
from stages.scores import per_class_accuracy, score


def main():
    runtime = params.load().runtime
    context = devices.context(devices.resolve(runtime.devices, "auto")[0])
    network, about = head.load(context)
    features, labels = records.read("test")
    logits = network.logits(features)

    classes = about["classes"]
    predicted = logits.argmax(axis=1)
    scores = score(logits, labels)
    scores["mean_class_accuracy"] = float(np.nanmean(per_class_accuracy(predicted, labels, len(classes))))
    metrics = {"images": len(labels), **{name: round(value, 6) for name, value in scores.items()}}
    with replacing(METRICS / "confusion.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows((classes[a], classes[p]) for a, p in zip(labels, predicted))
    write_json(METRICS / "test.json", metrics)
    print("{images} test images: top-1 {top1:.4f}, top-5 {top5:.4f}".format(**metrics))


if __name__ == "__main__":
    main()
