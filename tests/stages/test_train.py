"""train: what the stage writes, that it is the saved head's, and that it reads no test images."""

import json
import os

import pytest

from bench.project import set_params
from stages import evaluate, train
from stages.backbones import parameters
from stages.backend.mx import mx
from stages.classifier.model import curves, grid, trained
from stages.classifier.scores import Kept, TrainMetrics, score
from stages.common.disk import sums
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import METRICS, SPLIT
from stages.dataset import lists
from stages.dataset.lists import Row
from stages.features.stored import records
from tests.classifier.made import clouds, features_info, featurizing
from tests.conftest import BACKBONE

CPU = mx.cpu()
CURVES = ["train/loss", "train/top1", "valid/loss", "valid/top1", "seconds"]
CLASSES = ["cat", "dög", "red panda"]
DIM = 256
COUNTS = {"train": 8, "valid": 3, "test": 4}


@pytest.fixture(params=["float16", "float32"])
def stage(request, workspace, weights_file):
    """A folder in which featurize has run: three classes, easily told apart."""
    folder = workspace(BACKBONE, weights_file, train={"epochs": 4, "batch_size": 10}, runtime={"workers": 1})
    features_info(dim=DIM, dtype=request.param, classes=CLASSES).save(records.ABOUT)
    for seed, (subset, count) in enumerate(COUNTS.items()):
        features, labels = clouds(3, count, DIM, seed=seed)
        rows = [Row(index, label, f"{CLASSES[label]}/{index}.jpg") for index, label in enumerate(labels)]
        values = features.astype(request.param)
        records.write(subset, rows, [bytes(32)] * len(rows), values)
    return folder


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_stage_writes_model_metrics_and_curves(stage, capsys):
    before = everything(stage)
    train.main()
    printed = capsys.readouterr().out
    new = [path for path in everything(stage) if path not in before]
    tables = [f"metrics/curves/plots/metrics/{name}.tsv" for name in CURVES]
    assert new == sorted(
        [
            *tables,
            "metrics/curves/kept.json",
            "metrics/curves/metrics.json",
            "metrics/grid.csv",
            "metrics/train.json",
            "data/model/head.json",
            "data/model/head.params",
            "data/model/head.sha256",
        ]
    )
    for table in tables:
        lines = (stage / table).read_text().splitlines()
        assert lines[0].split("\t") == ["step", os.path.basename(table)[: -len(".tsv")]]
        assert [line.split("\t")[0] for line in lines[1:]] == ["1", "2", "3", "4"]

    info = trained.load().info
    assert info.features == records.FeaturesInfo.load(records.ABOUT)
    assert info.weights == parameters.read_info()
    assert (info.train, info.train_images, info.valid_images) == (params.load().train, 24, 9)
    metrics = json.loads((METRICS / "train.json").read_text())
    assert list(metrics) == ["valid_top1", "valid_loss", "best_epoch", "lr", "weight_decay", "refit"]
    assert 1 <= metrics["best_epoch"] <= 4 and metrics["valid_top1"] == 1
    kept = Kept.load(curves.KEPT)
    assert (kept.train_top1, kept.train_top5, kept.valid_top5) == (1, 1, 1)
    assert min(curves.read(4).seconds) > 0
    lr, decay, epoch = metrics["lr"], metrics["weight_decay"], metrics["best_epoch"]
    assert info.chosen.model_dump().items() >= {"lr": lr, "weight_decay": decay, "epochs": epoch}.items()
    assert metrics["refit"] == 33
    tried = len(info.train.rates) * len(info.train.decays)
    assert [trial.rule for trial in grid.read()].count((lr, decay)) == 1 and len(grid.read()) == tried
    assert printed == (
        f"best of {tried}: lr {lr:g}, weight decay {decay:g}, epoch {epoch} of 4: top-1 1.0000 train, 1.0000 valid\n"
    )


def test_metrics_are_those_of_the_saved_head_before_calibration(stage):
    set_params(stage / "params.yaml", train={"refit": False, "epochs": 4})
    train.main()
    metrics = TrainMetrics.load(METRICS / "train.json").model_dump()
    metrics |= Kept.load(curves.KEPT).model_dump()
    assert metrics["refit"] == 0
    head = trained.load()
    for subset in ("train", "valid"):
        features, labels = records.read(subset)
        scores = score([head.logits(features) * head.info.chosen.temperature], labels)
        for name, value in scores._asdict().items():
            assert metrics[f"{subset}_{name}"] == pytest.approx(value, abs=1e-6)


def test_the_stage_run_again_leaves_the_same_bytes(stage):
    def outputs():
        kept = (
            "data/model/",
            "metrics/grid",
            "metrics/curves/plots/metrics/train/",
            "metrics/curves/plots/metrics/valid/",
        )
        return {path: (stage / path).read_bytes() for path in everything(stage) if path.startswith(kept)}

    train.main()
    first = outputs()
    assert len(first) == 8
    train.main()
    assert outputs() == first


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_one_that_fails_leaves_what_the_one_before_wrote(stage, monkeypatch, error):
    train.main()
    before = {path: (stage / path).read_bytes() for path in everything(stage)}

    def fail(head, train, valid, settings, live):
        live.log_metric("train/loss", 1)
        live.next_step()
        raise error

    monkeypatch.setattr(train, "fit", fail)
    with pytest.raises(error):
        train.main()
    assert {path: (stage / path).read_bytes() for path in everything(stage)} == before


def test_test_images_are_not_read(stage):
    for path in stage.glob("data/features/test.*"):
        path.unlink()
    train.main()


def test_evaluate_finds_what_was_learnt(stage, capsys, monkeypatch):
    train.main()
    featurizing().save(records.WORK)
    labels = records.read("test")[1]
    lists.write(SPLIT / "test.lst", [Row(index, label, str(index)) for index, label in enumerate(labels)])
    capsys.readouterr()
    # Which shows more than there is here: the images, for one.
    monkeypatch.setattr(evaluate.contents, "gather", lambda *values: None)
    monkeypatch.setattr(evaluate.page, "write", lambda *values: None)
    evaluate.main()
    assert capsys.readouterr().out == "12 test images: top-1 1.0000, top-5 1.0000\n"


def test_features_of_other_weights_are_refused(stage):
    about = records.FeaturesInfo.load(records.ABOUT)
    about.model_copy(update={"weights": "0" * 64}).save(records.ABOUT)
    for subset in ("train", "valid"):
        sums.write([*(records.ABOUT.with_name(f"{subset}.{kind}") for kind in ("rec", "idx")), records.ABOUT])
    with pytest.raises(InputError, match=r"^data/weights/weights\.params is damaged or was replaced "):
        train.main()
