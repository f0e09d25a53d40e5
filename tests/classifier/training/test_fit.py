"""Training the head: what learns and what stays, which epoch is kept, and that the seed decides everything."""

import numpy as np
import pytest

from stages.backbones import zoo
from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.scores import score
from stages.classifier.training import layers, linear
from stages.classifier.training.fit import fit
from stages.common.errors import InputError
from tests.classifier.made import clouds, network, settings
from tests.conftest import BACKBONE

CPU = mx.cpu()
OPTIMIZERS = ["adam", "sgd", "nag", "rmsprop", "adagrad"]
CURVES = ["train/loss", "train/top1", "valid/loss", "valid/top1", "seconds"]


class Curves:
    """What ``fit`` logs: {name: [value of every epoch]}."""

    def __init__(self):
        self.values, self.epochs = {}, 0

    def log_metric(self, name, val):
        self.values.setdefault(name, []).append(val)

    def next_step(self):
        self.epochs += 1
        assert {len(values) for values in self.values.values()} == {self.epochs}


def fitted(built, data, valid=None, **values):
    """Trains; returns what :func:`fit` does, the curves, weights (classes, width + 1) of the last layer, bias last.

    What the calibration divided the weights by, they are multiplied with.
    """
    curves = Curves()
    found = fit(built, data, valid or data, settings(**values), curves)
    assert len(found.epochs) == curves.epochs == settings(**values).epochs
    output = built.trained[-1]
    for parameter in (output.weight, output.bias):
        parameter.set_data(parameter.data(built.contexts[0]).copyto(CPU) * found.temperature)
    return found, curves.values, weights(built)


def weights(built):
    output = built.trained[-1]
    return np.hstack(
        [value.data(built.contexts[0]).asnumpy().reshape(built.classes, -1) for value in (output.weight, output.bias)]
    )


@pytest.fixture
def build(workspace, weights_file):
    """A function that makes a head for pooled features: nothing but a dropout and the layer that learns."""
    workspace(BACKBONE, weights_file)
    return lambda classes=4, dropout=0.0: head.build(network(), "pool", classes, dropout, "last", [CPU])


# --- What is learnt --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_what_can_be_learnt(build, optimizer):
    data, unseen = clouds(), clouds(seed=1)
    built = build(dropout=0.2)
    fitted(built, data, optimizer=optimizer, epochs=15, batch_size=8)
    assert score(built.blocks(data[0]), data[1]).top1 == 1
    assert score(built.blocks(unseen[0]), unseen[1]).top1 == 1


def test_every_optimizer_is_another_one(build):
    results = [fitted(build(), clouds(), optimizer=optimizer)[2] for optimizer in OPTIMIZERS]
    for i, result in enumerate(results):
        assert not any(np.allclose(result, other, rtol=1e-3) for other in results[:i]), OPTIMIZERS[i]


def test_a_step_goes_down_the_mean_gradient_of_the_batch_also_of_the_last_short_one(build):
    (features, labels), lr, decay = clouds(), 0.5, 0.1
    # From zeros, and the mean of the features off: which axes they are turned to is nothing to a plain gradient.
    expected, mean = np.zeros((4, 17)), features.mean(axis=0)
    order = np.random.default_rng(3).permutation(40)
    for rows in (order[:16], order[16:32], order[32:]):
        x = np.hstack([features[rows] - mean, np.ones((len(rows), 1))])
        logits = x @ expected.T
        likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        gradient = (likelihood - np.eye(4)[labels[rows]]).T @ x / len(rows)
        expected -= lr * (gradient + decay * expected)
    expected[:, -1] -= expected[:, :-1] @ mean
    trained = fitted(
        build(), (features, labels), optimizer="sgd", lr=lr, epochs=1, batch_size=16, weight_decay=decay, seed=3
    )[2]
    np.testing.assert_allclose(trained, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_shrinks_the_weights(build, optimizer):
    free, decayed = (
        fitted(build(), clouds(), optimizer=optimizer, epochs=10, weight_decay=decay)[2][:, :-1] for decay in (0.0, 0.3)
    )
    assert np.linalg.norm(decayed) < 0.95 * np.linalg.norm(free)


# A training in whose last epoch the learning rate is next to nothing: it changes nothing any more.
SLOWING = {"optimizer": "sgd", "lr": 0.1, "schedule": "cosine", "epochs": 200}


@pytest.mark.parametrize("batch_size", [1, 7, 39, 40, 1000])
def test_the_curves_are_means_over_all_samples_whatever_the_batch_size(build, batch_size):
    data = clouds(spread=2.0)
    built = build()
    _, curves, _ = fitted(built, data, clouds(seed=1), **SLOWING, batch_size=batch_size)
    assert sorted(curves) == sorted(CURVES)
    for subset, (features, labels) in {"train": data, "valid": clouds(seed=1)}.items():
        expected = score(built.blocks(features), labels)
        assert curves[f"{subset}/loss"][-1] == pytest.approx(expected.loss, rel=1e-3)
        assert curves[f"{subset}/top1"][-1] == pytest.approx(expected.top1)


@pytest.mark.parametrize(("dropout", "same"), [(0.0, True), (0.5, False)])
def test_dropout_is_at_work_in_training_and_not_in_validation(build, dropout, same):
    data = clouds(spread=2.0)
    built = build(dropout=dropout)
    _, curves, _ = fitted(built, data, **SLOWING)
    assert curves["valid/loss"][-1] == pytest.approx(score(built.blocks(data[0]), data[1]).loss, rel=1e-5)
    assert (curves["train/loss"][-1] == pytest.approx(curves["valid/loss"][-1], rel=1e-3)) == same


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_one_sample_per_class_is_enough_to_run(build, batch_size):
    data = clouds(classes=3, per_class=1)
    built = build(classes=3)
    fitted(built, data, epochs=20, batch_size=batch_size)
    assert score(built.blocks(data[0]), data[1]).top1 == 1


# --- What stays ------------------------------------------------------------------------------------------------------


def maps(count=24):
    """Made-up features behind the convolutions of the narrow VGG (2 channels, 7×7), with labels."""
    rng = np.random.default_rng(5)
    return rng.standard_normal((count, 98)).clip(0).astype(np.float32), np.arange(count) % 3


def behind_fc6(vgg, features):
    return zoo.cut_layers(vgg, "conv")[1][0](mx.nd.array(features)).asnumpy()


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_frozen_layers_keep_every_bit(vgg, cut):
    features, labels = maps()
    built = head.build(network(), cut, 3, 0.5, "last", [CPU])
    before = {name: value.data().asnumpy() for name, value in built.frozen.collect_params().items()}
    assert len(before) == {"fc6": 2, "conv": 4}[cut]
    data = (features if cut == "conv" else behind_fc6(vgg, features), labels)
    trained = fitted(built, data, lr=1e-3, batch_size=10, weight_decay=0.1)[2]
    for name, value in built.frozen.collect_params().items():
        assert value.data().asnumpy().tobytes() == before[name].tobytes()
    assert (trained != 0).mean() > 0.9


def test_training_is_the_same_from_either_cut(vgg):
    features, labels = maps()
    conv, fc6 = (
        fitted(head.build(network(), cut, 3, 0.0, "last", [CPU]), (x, labels), lr=1e-3, batch_size=10)
        for cut, x in (("conv", features), ("fc6", behind_fc6(vgg, features)))
    )
    assert conv[0].best.best_epoch == fc6[0].best.best_epoch
    for name in CURVES[:-1]:
        assert conv[1][name] == pytest.approx(fc6[1][name], abs=1e-4)
    np.testing.assert_allclose(conv[2], fc6[2], atol=1e-4)


# --- Which epoch is kept ---------------------------------------------------------------------------------------------


def test_the_epoch_with_the_least_loss_is_kept(build):
    # A few hard samples and long steps: the loss goes up and down.
    data, valid = clouds(spread=2.0), clouds(per_class=3, spread=2.0, seed=1)
    built = build(dropout=0.5)
    found, curves, kept = fitted(built, data, valid, lr=0.5, epochs=30, batch_size=4, seed=2)
    losses, best = curves["valid/loss"], found.best.best_epoch
    assert min(losses) < min(losses[0], losses[-1]), "too easy for this test"
    assert best == 1 + losses.index(min(losses))
    scores = score(built.blocks(valid[0]), valid[1])
    assert (scores.top1, scores.loss) == pytest.approx((curves["valid/top1"][best - 1], losses[best - 1]), rel=1e-4)
    assert found.valid == pytest.approx(scores, rel=1e-4)
    # The weights are those of a training that ended with this epoch.
    ended = fitted(build(dropout=0.5), data, valid, lr=0.5, epochs=best, batch_size=4, seed=2)[2]
    np.testing.assert_allclose(kept, ended, rtol=1e-5, atol=1e-6)


def test_an_epoch_that_gets_nothing_right_is_kept_if_there_is_no_better(build):
    features, labels = clouds()
    found, curves, _ = fitted(build(), (features, labels), (features, (labels + 1) % 4), epochs=2, lr=1.0)
    assert curves["valid/top1"] == [0, 0]
    assert found.best.best_epoch == 1


# --- Many heads ------------------------------------------------------------------------------------------------------

HARD = {"data": clouds(spread=2.0), "valid": clouds(per_class=3, spread=2.0, seed=1)}


def test_heads_side_by_side_learn_what_each_learns_alone(build):
    grid = {"lr": [0.1, 0.003], "weight_decay": [0.0, 0.3]}
    found = fitted(build(), **HARD, **grid, epochs=1, batch_size=7)[0]
    assert [tuple(trial.rule) for trial in found.trials] == [(0.1, 0.0), (0.1, 0.3), (0.003, 0.0), (0.003, 0.3)]
    for trial in found.trials:
        lr, decay = trial.rule
        (alone,) = fitted(build(), **HARD, lr=lr, weight_decay=decay, epochs=1, batch_size=7)[0].trials
        assert trial.valid_loss == pytest.approx(alone.valid_loss, rel=1e-5)


@pytest.mark.parametrize("trainable", ["last", "all"])
def test_the_best_of_several_is_what_it_would_be_alone(workspace, weights_file, trainable):
    workspace(BACKBONE, weights_file)

    def run(**values):
        built = head.build(network(), "pool", 4, 0.0, trainable, [CPU])
        return fitted(built, **HARD, **values, epochs=6, batch_size=7, trainable=trainable)

    found, curves, kept = run(lr=[0.3, 0.1, 0.03, 0.01, 0.001], weight_decay=0.01)
    assert found.best == min(found.trials, key=lambda trial: trial.valid_loss)
    lr, decay = found.best.rule
    alone, its_curves, its = run(lr=lr, weight_decay=decay)
    assert found.best.best_epoch == alone.best.best_epoch
    for name in CURVES[:-1]:
        assert curves[name] == pytest.approx(its_curves[name], rel=1e-4)
    np.testing.assert_allclose(kept, its, rtol=1e-4, atol=1e-5)


# --- After the choice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["last", "all"])
def test_a_refit_learns_from_both_subsets_for_as_many_epochs_as_were_best(workspace, weights_file, trainable):
    workspace(BACKBONE, weights_file)

    def run(data, valid, **values):
        built = head.build(network(), "pool", 4, 0.0, trainable, [CPU])
        return fitted(built, data, valid, lr=0.3, batch_size=7, trainable=trainable, **values)

    data, valid = HARD["data"], HARD["valid"]
    found, _, kept = run(data, valid, epochs=6, refit=True)
    epochs = found.best.best_epoch
    assert epochs < 6
    both = tuple(np.concatenate(parts) for parts in zip(data, valid))
    # Validated on what it learnt last: the last epoch is the best.
    again = run(both, both, epochs=epochs)
    assert again[0].best.best_epoch == epochs
    np.testing.assert_allclose(kept, again[2], rtol=1e-4, atol=1e-5)
    # The figures are those of the choice.
    chosen = run(data, valid, epochs=6)[0]
    assert (found.valid, found.temperature) == (chosen.valid, chosen.temperature)


def test_balanced_is_as_if_every_class_had_as_many(build):
    features, labels = clouds(classes=2, per_class=40, spread=2.0)
    many, few = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:5]
    # The mean over a batch of all rows does not depend on their order.
    balanced, repeated = (
        fitted(build(classes=2), (features[rows], labels[rows]), **values)
        for rows, values in (
            (np.concatenate([many, few]), {"optimizer": "sgd", "class_weights": "balanced"}),
            (np.concatenate([many, *[few] * 8]), {"optimizer": "sgd"}),
        )
    )
    np.testing.assert_allclose(balanced[2], repeated[2], rtol=1e-4, atol=1e-6)
    assert balanced[1]["train/loss"] == pytest.approx(repeated[1]["train/loss"], rel=1e-5)


def test_balanced_is_no_difference_where_all_classes_have_as_many(build):
    data = clouds()
    plain, balanced = (fitted(build(), data, class_weights=kind)[2] for kind in ("none", "balanced"))
    np.testing.assert_array_equal(plain, balanced)


def test_the_temperature_is_in_the_last_layer(build):
    built = build()
    found = fit(built, *HARD.values(), settings(epochs=2), Curves())
    assert score(built.blocks(HARD["valid"][0]), HARD["valid"][1]).top1 == found.valid.top1
    assert score(built.blocks(HARD["valid"][0]), HARD["valid"][1]).loss < found.valid.loss
    assert found.temperature != 1


# --- Layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_layer_learns_in_numpy_what_it_learns_in_mxnet(workspace, weights_file, optimizer, monkeypatch):
    workspace(BACKBONE, weights_file)
    # MXNet's layers know of no axes, and start with random weights.
    monkeypatch.setattr(linear, "axes", lambda head, given: None)
    monkeypatch.setattr(layers, "xavier", lambda classes, width, seed: np.zeros((classes, width + 1), np.float32))
    kept = []
    for trainable in ("last", "all"):
        built = head.build(network(), "pool", 4, 0.0, trainable, [CPU])
        values = {"optimizer": optimizer, "schedule": "cosine", "trainable": trainable, "class_weights": "balanced"}
        # MXNet's nag takes part of the decay from the weights that it has just changed.
        decay = 0.0 if optimizer == "nag" else 0.05
        features, labels = HARD["data"]
        data = features[:-7], labels[:-7]
        kept.append(fitted(built, data, HARD["valid"], **values, lr=0.02, weight_decay=decay, batch_size=7, epochs=4))
    (ours, curves, weights), (theirs, their_curves, their_weights) = kept
    assert ours.best.best_epoch == theirs.best.best_epoch
    for name in CURVES[:-1]:
        assert curves[name] == pytest.approx(their_curves[name], rel=1e-4)
    np.testing.assert_allclose(weights, their_weights, rtol=1e-3, atol=1e-5)


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


# --- Several devices, more layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_several_devices_learn_what_one_does(workspace, weights_file, count):
    # 40 rows in batches of 7: shares of unequal size, and a last batch with fewer rows than devices.
    workspace(BACKBONE, weights_file)
    data = clouds()

    def run(contexts):
        built = head.build(network(), "pool", 4, 0.0, "all", contexts)
        return fitted(built, data, batch_size=13, epochs=4, lr=0.01, trainable="all")

    best, curves, one = run([CPU])
    several = run([mx.cpu(number) for number in range(count)])
    np.testing.assert_allclose(several[2], one, atol=1e-5)
    for name in CURVES[:-1]:
        np.testing.assert_allclose(several[1][name], curves[name], atol=1e-5)


def test_frozen_layers_are_shared_by_several_devices(vgg):
    features, labels = maps()

    def run(contexts):
        built = head.build(network(), "conv", 3, 0.0, "last", contexts)
        return fitted(built, (features, labels), lr=1e-3, batch_size=10)

    one, several = run([CPU]), run([mx.cpu(0), mx.cpu(1)])
    np.testing.assert_allclose(several[2], one[2], atol=1e-5)


def test_all_dense_layers_can_learn(vgg):
    rng = np.random.default_rng(0)
    features, labels = np.abs(rng.standard_normal((12, 4096), dtype=np.float32)), np.arange(12) % 3
    built = head.build(network(), "fc6", 3, 0.0, "all", [CPU])
    before = [p.data().asnumpy() for p in built.trained[:-1].collect_params().values()]
    losses = fitted(built, (features, labels), lr=1e-5, epochs=5, trainable="all")[1]["train/loss"]
    after = [p.data().asnumpy() for p in built.trained[:-1].collect_params().values()]
    assert len(before) == 2
    assert not any(np.array_equal(a, b) for a, b in zip(before, after))
    assert losses[0] > losses[-1]


# --- A loss that is not finite ---------------------------------------------------------------------------------------


def refused(built, data, valid=None, **values):
    with pytest.raises(InputError) as error:
        fitted(built, data, valid, **values)
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
