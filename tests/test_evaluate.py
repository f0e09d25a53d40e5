"""evaluate: its metrics and its table, from logits made by hand."""

import csv
import json

import numpy as np
import pytest

from stages import evaluate, head, records
from stages.lists import Row
from stages.mx import mx
from stages.paths import METRICS, write_json
from tests.conftest import BACKBONE

CLASSES = ["cat", "dög", "red, panda", "ant", "bee", "fly", "unseen"]

# (label, logits): right, right, second, sixth, right, second.
ROWS = [
    (0, [3, 0, 1, 0, 0, 0, 0]),
    (1, [0, 2, 1, 0, 0, 0, 0]),
    (1, [4, 3, 0, 0, 0, 0, 0]),
    (2, [6, 5, 1, 4, 3, 2, 0]),
    (3, [0, 0, 0, 1, 0, 0, 0]),
    (0, [1, 0, 0, 0, 0, 0, 2]),
]


@pytest.fixture
def stage(workspace, weights_file):
    """A folder in which a head was trained that hands its features on as logits."""
    width = 256
    folder = workspace(BACKBONE, weights_file)
    about = {"backbone": BACKBONE, "cut": "pool", "dim": width, "dtype": "float32", "classes": CLASSES}
    write_json(records.ABOUT, about)
    features = np.zeros((len(ROWS), width), np.float32)
    features[:, : len(CLASSES)] = [logits for _, logits in ROWS]
    rows = [Row(index, label, f"{index}.jpg") for index, (label, _) in enumerate(ROWS)]
    records.write("test", ((row, bytes(32), feature) for row, feature in zip(rows, features)))
    network = head.build(BACKBONE, "pool", len(CLASSES), 0.0, "last", [mx.cpu()])
    network.trained[-1].initialize()
    network.trained(mx.nd.zeros((1, width)))
    network.trained[-1].weight.set_data(mx.nd.array(np.eye(len(CLASSES), width)))
    head.save(network, {**about, "trainable": "last"})
    return folder


def test_metrics(stage, capsys):
    evaluate.main()
    metrics = json.loads((METRICS / "test.json").read_text())
    assert list(metrics) == ["images", "loss", "top1", "top5", "mean_class_accuracy"]
    logits = np.array([logits for _, logits in ROWS], np.float64)
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert metrics["images"] == 6
    assert metrics["loss"] == pytest.approx(-np.log([p[label] for p, (label, _) in zip(likelihood, ROWS)]).mean())
    assert metrics["top1"] == pytest.approx(3 / 6, abs=1e-6)
    # The logits of the fourth row put its class behind five others.
    assert metrics["top5"] == pytest.approx(5 / 6, abs=1e-6)
    # cat 1/2, dög 1/2, red panda 0/1, ant 1/1; the others have no images.
    assert metrics["mean_class_accuracy"] == pytest.approx((0.5 + 0.5 + 0 + 1) / 4)
    assert capsys.readouterr().out == "6 test images: top-1 0.5000, top-5 0.8333\n"


def test_the_table_names_what_every_image_is_and_was_taken_for(stage):
    evaluate.main()
    with open(METRICS / "confusion.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["actual", "predicted"]
    assert rows == [
        ["cat", "cat"],
        ["dög", "dög"],
        ["dög", "cat"],
        ["red, panda", "cat"],
        ["ant", "ant"],
        ["cat", "unseen"],
    ]


def test_run_again_it_writes_the_same(stage):
    def outputs():
        return [(METRICS / name).read_bytes() for name in ("test.json", "confusion.csv")]

    evaluate.main()
    first = outputs()
    evaluate.main()
    assert outputs() == first
    assert sorted(path.name for path in METRICS.iterdir()) == ["confusion.csv", "test.json"]


def test_only_the_test_images_are_read(stage):
    assert sorted(path.name for path in stage.glob("data/features/*")) == ["features.json", "test.idx", "test.rec"]
    evaluate.main()
