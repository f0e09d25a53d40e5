"""Training the head: what learns and what stays, which epoch is kept, and that the seed decides everything."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from stages import evaluate, train
from stages.backbones import zoo as networks
from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.scores import score
from stages.common import params
from stages.common.errors import InputError
from stages.common.files import write_json
from stages.common.layout import METRICS, MODEL
from stages.dataset.lists import Row
from stages.features import records
from tests.conftest import BACKBONE

CPU = mx.cpu()
OPTIMIZERS = ["adam", "sgd", "nag", "rmsprop", "adagrad"]
CURVES = ["train/loss", "train/top1", "valid/loss", "valid/top1", "seconds"]


def settings(**values):
    """The section ``train`` of the params: full batches of all data and no dropout, unless told otherwise."""
    given = {"optimizer": "adam", "lr": 0.05, "epochs": 3, "batch_size": 1000, "weight_decay": 0.0, "seed": 0}
    return SimpleNamespace(**{**given, **values})


def clouds(classes=4, per_class=10, dim=16, spread=0.3, seed=0):
    """Features (float32 NDArray) around one centre per class, and their labels, shuffled."""
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(classes * per_class) % classes)
    features = centres[labels] + spread * rng.standard_normal((len(labels), dim))
    return features.astype(np.float32), labels


class Curves:
    """What ``fit`` logs: {name: [value of every epoch]}."""

    def __init__(self):
        self.values, self.epochs = {}, 0

    def log(self, name, value):
        self.values.setdefault(name, []).append(value)

    def next_step(self):
        self.epochs += 1
        assert {len(values) for values in self.values.values()} == {self.epochs}


def fitted(network, data, valid=None, **values):
    """Trains; returns (best epoch, the curves, weights (classes, width + 1) of the last layer, bias last)."""
    curves = Curves()
    best, seconds = train.fit(network, data, valid or data, settings(**values), curves.log, curves.next_step)
    assert len(seconds) == curves.epochs == settings(**values).epochs
    return best, curves.values, weights(network)


def weights(network):
    output = network.trained[-1]
    return np.hstack([output.weight.data().asnumpy(), output.bias.data().asnumpy()[:, None]])


@pytest.fixture
def build(workspace, weights_file):
    """A function that makes a head for pooled features: nothing but a dropout and the layer that learns."""
    workspace(BACKBONE, weights_file)
    return lambda classes=4, dropout=0.0: head.build(BACKBONE, "pool", classes, dropout, "last", [CPU])


# --- What is learnt --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_what_can_be_learnt(build, optimizer):
    data, unseen = clouds(), clouds(seed=1)
    network = build(dropout=0.2)
    fitted(network, data, optimizer=optimizer, epochs=15, batch_size=8)
    assert score(network.blocks(data[0]), data[1])["top1"] == 1
    assert score(network.blocks(unseen[0]), unseen[1])["top1"] == 1


def test_every_optimizer_is_another_one(build):
    results = [fitted(build(), clouds(), optimizer=optimizer)[2] for optimizer in OPTIMIZERS]
    for i, result in enumerate(results):
        assert not any(np.allclose(result, other, rtol=1e-3) for other in results[:i]), OPTIMIZERS[i]


def start(build, seed=0):
    """The last layer's weights before the first step."""
    return fitted(build(), clouds(), optimizer="sgd", lr=1e-30, epochs=1, seed=seed)[2]


def test_a_step_goes_down_the_mean_gradient_of_the_batch_also_of_the_last_short_one(build):
    (features, labels), lr, decay = clouds(), 0.5, 0.1
    expected = start(build, seed=3).astype(np.float64)
    order = np.random.default_rng(3).permutation(40)
    for rows in (order[:16], order[16:32], order[32:]):
        x = np.hstack([features[rows], np.ones((len(rows), 1))])
        logits = x @ expected.T
        likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        gradient = (likelihood - np.eye(4)[labels[rows]]).T @ x / len(rows)
        expected -= lr * (gradient + decay * expected)
    trained = fitted(
        build(), (features, labels), optimizer="sgd", lr=lr, epochs=1, batch_size=16, weight_decay=decay, seed=3
    )[2]
    np.testing.assert_allclose(trained, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_shrinks_the_weights(build, optimizer):
    free, decayed = (
        fitted(build(), clouds(), optimizer=optimizer, epochs=10, weight_decay=decay)[2][:, :-1] for decay in (0.0, 0.3)
    )
    assert np.linalg.norm(decayed) < 0.95 * np.linalg.norm(free)


@pytest.mark.parametrize("batch_size", [1, 7, 39, 40, 1000])
def test_the_curves_are_means_over_all_samples_whatever_the_batch_size(build, batch_size):
    data = clouds()
    network = build()
    # So small a step changes nothing: all is as with the weights of the start.
    _, curves, _ = fitted(network, data, clouds(seed=1), optimizer="sgd", lr=1e-30, epochs=2, batch_size=batch_size)
    assert sorted(curves) == sorted(CURVES)
    for subset, (features, labels) in {"train": data, "valid": clouds(seed=1)}.items():
        expected = score(network.blocks(features), labels)
        assert curves[f"{subset}/loss"] == pytest.approx([expected["loss"]] * 2, rel=1e-5)
        assert curves[f"{subset}/top1"] == pytest.approx([expected["top1"]] * 2)


@pytest.mark.parametrize(("dropout", "same"), [(0.0, True), (0.5, False)])
def test_dropout_is_at_work_in_training_and_not_in_validation(build, dropout, same):
    data = clouds()
    network = build(dropout=dropout)
    _, curves, _ = fitted(network, data, optimizer="sgd", lr=1e-30, epochs=1)
    assert curves["valid/loss"] == [score(network.blocks(data[0]), data[1])["loss"]]
    assert (curves["train/loss"] == pytest.approx(curves["valid/loss"], rel=1e-5)) == same


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_one_sample_per_class_is_enough_to_run(build, batch_size):
    data = clouds(classes=3, per_class=1)
    network = build(classes=3)
    fitted(network, data, epochs=20, batch_size=batch_size)
    assert score(network.blocks(data[0]), data[1])["top1"] == 1


# --- What stays ------------------------------------------------------------------------------------------------------


def maps(count=24):
    """Made-up features behind the convolutions of the narrow VGG (2 channels, 7×7), with labels."""
    rng = np.random.default_rng(5)
    return mx.nd.array(rng.standard_normal((count, 98)).clip(0), dtype=np.float32), np.arange(count) % 3


def behind_fc6(network, features):
    return networks.cut_layers(network, "conv")[1][0](features)


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_frozen_layers_keep_every_bit(vgg, cut):
    features, labels = maps()
    network = head.build("vgg16", cut, 3, 0.5, "last", [CPU])
    before = {name: value.data().asnumpy() for name, value in network.frozen.collect_params().items()}
    assert len(before) == {"fc6": 2, "conv": 4}[cut]
    data = (features if cut == "conv" else behind_fc6(vgg, features), labels)
    trained = fitted(network, data, lr=1e-3, batch_size=10, weight_decay=0.1)[2]
    for name, value in network.frozen.collect_params().items():
        assert value.data().asnumpy().tobytes() == before[name].tobytes()
    first = fitted(network, data, optimizer="sgd", lr=1e-30, epochs=1)[2]
    assert (trained != first).mean() > 0.9


def test_training_is_the_same_from_either_cut(vgg):
    features, labels = maps()
    conv, fc6 = (
        fitted(head.build("vgg16", cut, 3, 0.0, "last", [CPU]), (x, labels), lr=1e-3, batch_size=10)
        for cut, x in (("conv", features), ("fc6", behind_fc6(vgg, features)))
    )
    assert conv[0] == fc6[0]
    for name in CURVES[:-1]:
        assert conv[1][name] == pytest.approx(fc6[1][name], abs=1e-4)
    np.testing.assert_allclose(conv[2], fc6[2], atol=1e-4)


# --- Which epoch is kept ---------------------------------------------------------------------------------------------


def test_the_first_of_the_best_epochs_is_kept(build):
    # A few hard samples and long steps: the accuracy goes up and down.
    data, valid = clouds(spread=2.0), clouds(per_class=3, spread=2.0, seed=1)
    network = build(dropout=0.5)
    best, curves, kept = fitted(network, data, valid, lr=0.5, epochs=30, batch_size=4, seed=2)
    top1 = curves["valid/top1"]
    assert top1.count(max(top1)) > 1 and max(top1) > top1[-1] and max(top1) > top1[0], "too easy for this test"
    assert best == 1 + top1.index(max(top1))
    scores = score(network.blocks(valid[0]), valid[1])
    assert (scores["top1"], scores["loss"]) == (top1[best - 1], curves["valid/loss"][best - 1])
    # The weights are those of a training that ended with this epoch.
    np.testing.assert_array_equal(
        kept, fitted(build(dropout=0.5), data, valid, lr=0.5, epochs=best, batch_size=4, seed=2)[2]
    )


def test_an_epoch_that_gets_nothing_right_is_kept_if_there_is_no_better(build):
    features, labels = clouds()
    best, curves, _ = fitted(build(), (features, labels), (features, (labels + 1) % 4), epochs=2, lr=1.0)
    assert curves["valid/top1"] == [0, 0]
    assert best == 1


# --- The seed --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_one_others(build):
    def run(seed):
        return fitted(build(dropout=0.5), clouds(), batch_size=16, seed=seed)[2]

    first = run(7)
    # What other random numbers the process has drawn does not count.
    mx.random.seed(123)
    np.random.seed(123)
    mx.nd.random.uniform(shape=(5,)).wait_to_read()
    assert run(7).tobytes() == first.tobytes()
    assert run(8).tobytes() != first.tobytes()


def test_another_seed_starts_elsewhere(build):
    assert (start(build, seed=0) != start(build, seed=1))[:, :-1].all()


# --- Several devices, more layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_several_devices_learn_what_one_does(workspace, weights_file, count):
    # 40 rows in batches of 7: shares of unequal size, and a last batch with fewer rows than devices.
    workspace(BACKBONE, weights_file)
    data = clouds()

    def run(contexts):
        network = head.build(BACKBONE, "pool", 4, 0.0, "last", contexts)
        return fitted(network, data, batch_size=13, epochs=4, lr=0.01)

    best, curves, one = run([CPU])
    several = run([mx.cpu(number) for number in range(count)])
    np.testing.assert_allclose(several[2], one, atol=1e-5)
    for name in CURVES[:-1]:
        np.testing.assert_allclose(several[1][name], curves[name], atol=1e-5)


def test_all_dense_layers_can_learn(vgg):
    rng = np.random.default_rng(0)
    features, labels = np.abs(rng.standard_normal((12, 4096), dtype=np.float32)), np.arange(12) % 3
    network = head.build("vgg16", "fc6", 3, 0.0, "all", [CPU])
    before = [p.data().asnumpy() for p in network.trained[:-1].collect_params().values()]
    losses = fitted(network, (features, labels), lr=1e-5, epochs=5)[1]["train/loss"]
    after = [p.data().asnumpy() for p in network.trained[:-1].collect_params().values()]
    assert len(before) == 2
    assert not any(np.array_equal(a, b) for a, b in zip(before, after))
    assert losses[0] > losses[-1]
    # And what was learnt is saved and found again.
    head.save(network, {"backbone": "vgg16", "cut": "fc6", "classes": ["a", "b", "c"], "trainable": "all"})
    np.testing.assert_array_equal(head.load(CPU)[0].logits(features), network.logits(features))


# --- A loss that is not finite ---------------------------------------------------------------------------------------


def refused(network, data, valid=None, **values):
    with pytest.raises(InputError) as error:
        fitted(network, data, valid, **values)
    return str(error.value)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_loss_that_overflows_in_training_names_the_learning_rate(build):
    message = refused(build(), clouds(), lr=1e38, optimizer="sgd", batch_size=4)
    assert message == "the loss is not finite in epoch 1: lower train.lr (it is 1e+38)"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_loss_that_overflows_in_validation_names_the_learning_rate(build):
    # The only step comes after the only batch: the training loss is still fine.
    message = refused(build(), clouds(), lr=1e38, optimizer="adam", epochs=1)
    assert message == "the loss is not finite in epoch 1: lower train.lr (it is 1e+38)"


# --- The stage -------------------------------------------------------------------------------------------------------

CLASSES = ["cat", "dög", "red panda"]
DIM = 256
COUNTS = {"train": 8, "valid": 3, "test": 4}


@pytest.fixture(params=["float16", "float32"])
def stage(request, workspace, weights_file):
    """A folder in which featurize has run: three classes, easily told apart."""
    folder = workspace(BACKBONE, weights_file, train={"epochs": 4, "batch_size": 10}, runtime={"workers": 1})
    about = {"backbone": BACKBONE, "cut": "pool", "dim": DIM, "dtype": request.param, "fingerprint": "12"}
    write_json(records.ABOUT, {**about, "classes": CLASSES})
    for seed, (subset, count) in enumerate(COUNTS.items()):
        features, labels = clouds(3, count, DIM, seed=seed)
        rows = [Row(index, label, f"{CLASSES[label]}/{index}.jpg") for index, label in enumerate(labels)]
        values = features.astype(request.param)
        records.write(subset, ((row, bytes(32), feature) for row, feature in zip(rows, values)))
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
        [*tables, "metrics/curves/metrics.json", "metrics/train.json", "data/model/head.json", "data/model/head.params"]
    )
    for table in tables:
        lines = (stage / table).read_text().splitlines()
        assert lines[0].split("\t") == ["step", os.path.basename(table)[: -len(".tsv")]]
        assert [line.split("\t")[0] for line in lines[1:]] == ["0", "1", "2", "3"]

    about = json.loads((MODEL / "head.json").read_text(encoding="utf-8"))
    assert about == {
        **json.loads(records.ABOUT.read_text(encoding="utf-8")),
        "trainable": "last",
        "train": params.load().train.model_dump(),
        "images": {"train": 24, "valid": 9},
    }
    metrics = json.loads((METRICS / "train.json").read_text())
    assert list(metrics) == [
        "best_epoch", "epochs", "seconds_per_epoch",
        "train_loss", "train_top1", "train_top5", "valid_loss", "valid_top1", "valid_top5",
    ]  # fmt: skip
    assert metrics["epochs"] == 4 and 1 <= metrics["best_epoch"] <= 4 and metrics["seconds_per_epoch"] > 0
    assert (metrics["train_top1"], metrics["valid_top1"], metrics["valid_top5"]) == (1, 1, 1)
    assert printed == f"best epoch {metrics['best_epoch']} of 4: top-1 1.0000 train, 1.0000 valid\n"


def test_metrics_are_those_of_the_saved_head(stage):
    train.main()
    metrics = json.loads((METRICS / "train.json").read_text())
    network, _ = head.load(CPU)
    for subset in ("train", "valid"):
        features, labels = records.read(subset)
        scores = score(network.blocks(mx.nd.array(features, dtype=np.float32)), labels)
        for name, value in scores.items():
            assert metrics[f"{subset}_{name}"] == pytest.approx(value, abs=1e-6)


def test_the_stage_run_again_leaves_the_same_bytes(stage):
    def outputs():
        kept = ("data/model/", "metrics/curves/plots/metrics/train/", "metrics/curves/plots/metrics/valid/")
        return {path: (stage / path).read_bytes() for path in everything(stage) if path.startswith(kept)}

    train.main()
    first = outputs()
    assert len(first) == 6
    train.main()
    assert outputs() == first


def test_test_images_are_not_read(stage):
    for path in stage.glob("data/features/test.*"):
        path.unlink()
    train.main()


def test_evaluate_finds_what_was_learnt(stage, capsys, monkeypatch):
    train.main()
    capsys.readouterr()
    # Which shows more than there is here: the images, for one.
    monkeypatch.setattr(evaluate, "write_report", lambda *values: None)
    evaluate.main()
    assert capsys.readouterr().out == "12 test images: top-1 1.0000, top-5 1.0000\n"


def test_the_params_are_those_that_fit_takes(stage):
    given = vars(settings())
    assert set(params.load().train.model_dump()) == {*given, "dropout", "trainable"}
