"""evaluate: its metrics and its table, from logits made by hand."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.pictures import encoded, photo
from stages import evaluate
from stages.backbones.parameters import WeightsInfo
from stages.classifier.model import curves, grid, trained
from stages.classifier.model.grid import Rule, Trial
from stages.classifier.scores import Kept, Scores
from stages.common.disk.files import sha256, write_text
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import CURVES, MANIFEST, METRICS, SPLIT, WEIGHTS
from stages.dataset import lists, manifest
from stages.dataset.lists import Row
from stages.features.stored import records
from stages.findings import finding, plane
from tests.classifier.made import chosen, features_info, featurizing
from tests.conftest import BACKBONE

WIDTH = 256
CLASSES = ["cat", "dög", "red, panda", "ant", "bee", "fly", "=unseen"]

# In place of a picture.
GONE = '<p class="gone">the image is not on this machine</p>'

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
    """A folder in which a head was trained that hands its features on as logits; the weights are not there."""
    folder = workspace(BACKBONE, weights_file, dataset={"name": "folder", "path": "photos"})
    about = features_info(dim=WIDTH, dtype="float32", classes=CLASSES)
    about.save(records.ABOUT)
    features = np.zeros((len(ROWS), WIDTH), np.float32)
    features[:, : len(CLASSES)] = [logits for _, logits in ROWS]
    rows = [Row(index, label, f"{CLASSES[label]}/{index}.jpg") for index, (label, _) in enumerate(ROWS)]
    lists.write(SPLIT / "test.lst", rows)
    listed = []
    for row in sorted(rows, key=lambda row: manifest.order(row.path)):
        path = folder / "photos" / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(row.index).save(path)
        listed.append(manifest.Row(row.path, CLASSES[row.label], sha256(path), path.stat().st_size))
    manifest.write(MANIFEST, listed)
    records.write("test", rows, [bytes(32)] * len(rows), features)
    values = {"1.weight": np.eye(len(CLASSES), WIDTH, dtype=np.float32), "1.bias": np.zeros(len(CLASSES), np.float32)}
    weights = {"backbone": BACKBONE, "source": "a file", "source_sha256": "0123456789abcdef", "sha256": about.weights}
    trained.save(
        values,
        about,
        WeightsInfo(**weights, parameters=470072),
        params.load().train.model_copy(update={"epochs": 3}),
        chosen(),
        20,
        10,
    )
    shutil.rmtree(WEIGHTS)
    scores = Scores(0.5, 0.5, 1.0)
    Kept.of(2, 3, scores, scores).save(curves.KEPT)
    grid.write([Trial(Rule(0.01, 0.0), 2, 0.5, 0.5, None)])
    featurizing().save(records.WORK)
    finding.write([], CLASSES)
    finding.AuditMetrics.of([], 36, 0).save(finding.COUNTS)
    plane.write_none()
    for curve in ("train/loss", "train/top1", "valid/loss", "valid/top1", "seconds"):
        name = curve.split("/")[-1]
        write_text(CURVES / f"plots/metrics/{curve}.tsv", f"step\t{name}\n0\t0.5\n1\t0.75\n2\t0.625\n")
    return folder


def test_the_report_has_the_accuracy_without_leaked_images(stage):
    leak = finding.Finding("leak", f"{CLASSES[0]}/0.jpg", CLASSES[0], "", 0.97, "elsewhere.jpg")
    finding.write([leak], CLASSES)
    evaluate.main()
    # The first row, which was right, is a leak: two of five are left.
    assert "Top-1 with the 1 leaked test image left out: 40.0\u202f%</b> of 5." in (METRICS / "report.html").read_text()


def test_metrics(stage, capsys):
    evaluate.main()
    metrics = json.loads((METRICS / "test.json").read_text())
    assert list(metrics) == ["top1", "top5", "mean_class_accuracy", "loss", "ece", "images"]
    logits = np.array([logits for _, logits in ROWS], np.float64)
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert metrics["images"] == 6
    assert metrics["loss"] == pytest.approx(-np.log([p[label] for p, (label, _) in zip(likelihood, ROWS)]).mean())
    assert metrics["top1"] == pytest.approx(3 / 6, abs=1e-6)
    # The logits of the fourth row put its class behind five others.
    assert metrics["top5"] == pytest.approx(5 / 6, abs=1e-6)
    right = likelihood.argmax(axis=1) == [label for label, _ in ROWS]
    bins = [(likelihood.max(axis=1) * 15).astype(int) == number for number in range(15)]
    gaps = [abs((likelihood.max(axis=1) - right)[rows].sum()) for rows in bins]
    assert metrics["ece"] == pytest.approx(sum(gaps) / 6, abs=1e-6)
    # cat 1/2, dög 1/2, red panda 0/1, ant 1/1; the others have no images.
    assert metrics["mean_class_accuracy"] == pytest.approx((0.5 + 0.5 + 0 + 1) / 4)
    assert capsys.readouterr().out == "6 test images: top-1 0.5000, top-5 0.8333\n"


def test_timing_is_of_the_features_and_the_training(stage):
    evaluate.main()
    assert json.loads((METRICS / "timing.json").read_text()) == {
        "featurize_seconds": 40.0,
        "images_per_second": 2.5,
        "forward_passes": 60,
        "reused": 40,
        "seconds_per_epoch": 0.625,
    }


def test_every_test_image_has_a_row_with_what_it_is_and_was_taken_for(stage):
    evaluate.main()
    with open(METRICS / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "actual", "predicted", "probability", "actual_probability"]
    assert [(row["path"], row["actual"], row["predicted"]) for row in rows] == [
        ("cat/0.jpg", "cat", "cat"),
        ("dög/1.jpg", "dög", "dög"),
        ("dög/2.jpg", "dög", "cat"),
        ("red, panda/3.jpg", "red, panda", "cat"),
        ("ant/4.jpg", "ant", "ant"),
        ("cat/5.jpg", "cat", "'=unseen"),
    ]
    logits = np.array([logits for _, logits in ROWS], np.float64)
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = [(p.max(), p[label]) for p, (label, _) in zip(likelihood, ROWS)]
    found = [(float(row["probability"]), float(row["actual_probability"])) for row in rows]
    assert found == [(pytest.approx(p, abs=1e-6), pytest.approx(own, abs=1e-6)) for p, own in wanted]


def test_the_table_of_classes_leaves_open_what_was_not_counted(stage):
    evaluate.main()
    with open(METRICS / "classes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["class", "accuracy"],
        ["cat", "0.5"],
        ["dög", "0.5"],
        ["red, panda", "0.0"],
        ["ant", "1.0"],
        ["bee", ""],
        ["fly", ""],
        ["'=unseen", ""],
    ]


def test_the_report_shows_what_the_test_found_and_what_made_the_head(stage):
    evaluate.main()
    page = (METRICS / "report.html").read_text(encoding="utf-8")
    assert "photos: 50.0\u202f% of 6 test images recognised" in page
    # Three mistakes and three hits, with their pictures.
    alternatives = sorted([*(row.path for row in lists.read("test")), *["what the network saw of it"] * 6])
    assert sorted(re.findall('alt="(.*?)"', page)) == alternatives
    assert page.count('src="data:image/jpeg;base64,') == 12
    # The surest first; their rows, of which the heading is the first.
    assert re.search(r"<pre [^>]*>(.*?)</pre>", page, re.DOTALL)[1].split("\n") == [
        "photos/dög/2.jpg", "photos/red, panda/3.jpg", "photos/cat/5.jpg", "",
    ]  # fmt: skip
    assert re.findall(r'href="predictions.csv#row=(\d+)"', page)[:3] == ["4", "5", "7"]
    for name, value in [
        ("dataset.name", "folder"),
        ("split.test", "0.25"),
        ("images", "20 train, 10 valid, 6 test"),
        ("network", BACKBONE),
        ("weights", "a file"),
        ("SHA-256", "0123456789ab"),
        ("parameters", "470,072"),
        ("cut", "pool"),
        ("dim", "256"),
        ("optimizer", "adam"),
    ]:
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page
    assert "best: 2" in page
    assert re.search(r"<title>epoch 2: train 0\.75, valid 0\.75</title>", page)


@pytest.mark.parametrize("gone", ["all", "one", "damaged", "another"])
def test_where_images_are_not_there_the_report_says_so_in_their_place_and_is_whole(stage, gone):
    evaluate.main()
    report, others = METRICS / "report.html", ["classes.csv", "predictions.csv", "test.json"]
    page, numbers = report.read_text(encoding="utf-8"), [(METRICS / name).read_bytes() for name in others]
    path = lists.read("test")[1].path
    if gone == "all":
        shutil.rmtree("photos")
    elif gone == "one":
        Path("photos", path).unlink()
    else:
        Path("photos", path).write_bytes(b"no image at all" if gone == "damaged" else encoded(photo(99), "JPEG"))
    evaluate.main()
    count = 6 if gone == "all" else 1
    figure = '<figure><img src="data:image/jpeg;base64,[^"]*" alt="{}"><figcaption>[^<]*</figcaption></figure>\\s*'
    picture = r'<div class="pair">\s*' + figure + figure.format("what the network saw of it") + "</div>"
    expected, replaced = re.subn(picture.format(".*?" if gone == "all" else re.escape(path)), GONE, page)
    assert replaced == count
    assert report.read_text(encoding="utf-8") == expected
    assert [(METRICS / name).read_bytes() for name in others] == numbers


def test_a_list_of_other_images_than_the_manifests_is_refused(stage):
    rows = lists.read("test")
    lists.write(SPLIT / "test.lst", [rows[0]._replace(path="cat/other.jpg"), *rows[1:]])
    with pytest.raises(InputError) as refused:
        evaluate.main()
    assert str(refused.value) == (
        "data/manifest.tsv has no cat/other.jpg, which data/split/test.lst lists: run `dvc repro`"
    )


def test_features_of_another_list_are_refused(stage):
    rows = lists.read("test")
    lists.write(SPLIT / "test.lst", [*rows[:2], rows[2]._replace(label=5), *rows[3:]])
    with pytest.raises(InputError, match=r"^the features are not those of data/split/test\.lst: run `dvc repro`$"):
        evaluate.main()


def test_run_again_it_writes_the_same(stage):
    written = ["classes.csv", "predictions.csv", "report.html", "test.json", "timing.json"]
    before = {path.name for path in METRICS.iterdir()}

    def outputs():
        return [(METRICS / name).read_bytes() for name in written]

    evaluate.main()
    first = outputs()
    evaluate.main()
    assert outputs() == first
    assert sorted({path.name for path in METRICS.iterdir()} - before) == written


def test_only_the_test_images_are_read(stage):
    assert sorted(path.name for path in stage.glob("data/features/*")) == [
        "features.json",
        "test.idx",
        "test.rec",
        "test.sha256",
        "work.json",
    ]
    evaluate.main()
