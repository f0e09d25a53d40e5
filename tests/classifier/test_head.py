"""The head: what is kept of the backbone behind the cut, and one dense layer that learns."""

import json
import os

import numpy as np
import pytest

from stages.backbones import zoo as networks
from stages.backend.mx import mx
from stages.classifier import head
from stages.common.layout import MODEL
from tests.conftest import BACKBONE

CPU = mx.cpu()


def kinds(built):
    return [type(layer).__name__ for layer in built.frozen]


def noise(*shape, seed=0):
    return mx.nd.array(np.random.default_rng(seed).standard_normal(shape, np.float32))


def with_output_of(built, network):
    """The head with the network's own last layer in place of the new one."""
    built.trained[-1].initialize()
    built.trained[-1](mx.nd.zeros((1, network.output.weight.shape[1])))
    built.trained[-1].weight.set_data(network.output.weight.data())
    built.trained[-1].bias.set_data(network.output.bias.data())
    return built


# --- What it is made of ----------------------------------------------------------------------------------------------


def test_behind_pooled_features_there_is_a_dropout_and_the_new_layer(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    built = head.build(BACKBONE, "pool", 7, 0.5, "last", [CPU])
    assert kinds(built) == ["Dropout"]
    assert not list(built.frozen.collect_params())
    assert (type(built.trained[-1]), built.trained[-1]._units, built.trained[-1].act) == (mx.gluon.nn.Dense, 7, None)


def test_a_backbone_with_its_own_dropout_gets_no_second_one(workspace, tmp_path):
    network = networks.build("squeezenet1.1")
    network.initialize()
    network(mx.nd.zeros((1, 3, 224, 224))).wait_to_read()
    network.save_parameters(str(tmp_path / "squeezenet.params"))
    workspace("squeezenet1.1", tmp_path / "squeezenet.params")
    assert kinds(head.build("squeezenet1.1", "pool", 7, 0.5, "last", [CPU])) == ["Dropout"]


@pytest.mark.parametrize(
    ("cut", "kept"), [("fc6", ["Dropout", "Dense", "Dropout"]), ("conv", ["Dense", "Dropout", "Dense", "Dropout"])]
)
def test_dense_layers_of_vgg_behind_the_cut_are_kept(vgg, cut, kept):
    built = head.build("vgg16", cut, 7, 0.5, "last", [CPU])
    assert kinds(built) == kept
    dense = [layer for layer in built.frozen if isinstance(layer, mx.gluon.nn.Dense)]
    theirs = [layer for layer in vgg.features if isinstance(layer, mx.gluon.nn.Dense)][-len(dense) :]
    for ours, original in zip(dense, theirs):
        np.testing.assert_array_equal(ours.weight.data().asnumpy(), original.weight.data().asnumpy())
        np.testing.assert_array_equal(ours.bias.data().asnumpy(), original.bias.data().asnumpy())


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_only_the_new_layer_has_gradients(vgg, cut):
    built = head.build("vgg16", cut, 7, 0.5, "last", [CPU])
    assert {parameter.grad_req for parameter in built.frozen.collect_params().values()} == {"null"}
    assert {parameter.grad_req for parameter in built.trained[-1].collect_params().values()} == {"write"}


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_every_dropout_has_the_given_rate(vgg, cut):
    built = head.build("vgg16", cut, 7, 0.125, "last", [CPU])
    assert [layer._rate for layer in built.frozen if isinstance(layer, mx.gluon.nn.Dropout)] == [0.125, 0.125]


def test_dropout_drops_in_training_only(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    built = head.build(BACKBONE, "pool", 7, 0.25, "last", [CPU])
    ones = mx.nd.ones((100, 256))
    assert (built.frozen(ones).asnumpy() == 1).all()
    mx.random.seed(0)
    with mx.autograd.train_mode():
        dropped = built.frozen(ones).asnumpy()
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.02)


# --- What it computes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_features_of_vgg_through_the_head_are_the_whole_network(vgg, cut):
    images = noise(3, 3, 224, 224)
    expected = vgg(images).asnumpy()
    assert expected.shape == (3, 20) and expected.std() > 0.1
    built = with_output_of(head.build("vgg16", cut, 20, 0.5, "last", [CPU]), vgg)
    np.testing.assert_allclose(built.logits(networks.Body(vgg, cut)(images)), expected, rtol=1e-5, atol=1e-5)


def test_pooled_features_through_the_head_are_the_whole_network(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    network, images = networks.load(BACKBONE), noise(2, 3, 224, 224)
    # MobileNet's own output is a dense layer over all features.
    built = with_output_of(head.build(BACKBONE, "pool", 1000, 0.5, "last", [CPU]), network)
    logits = built.logits(networks.Body(network, "pool")(images))
    np.testing.assert_allclose(logits, network(images).asnumpy(), rtol=1e-5, atol=1e-5)


def test_logits_do_not_depend_on_the_batch_size(vgg):
    built = with_output_of(head.build("vgg16", "fc6", 20, 0.5, "last", [CPU]), vgg)
    features = noise(7, 4096)
    expected = built.logits(features)
    assert (expected.shape, expected.dtype) == ((7, 20), np.float32)
    for batch_size in (1, 3, 7, 8):
        np.testing.assert_allclose(built.logits(features, batch_size), expected, rtol=1e-5, atol=1e-4)


# --- As files --------------------------------------------------------------------------------------------------------

ABOUT = {"backbone": "vgg16", "cut": "fc6", "classes": ["cat", "dög", "red panda"], "dim": 4096, "trainable": "last"}


def trained(seed=1):
    """A head with some values in its last layer."""
    built = head.build("vgg16", "fc6", 3, 0.5, "last", [CPU])
    built.trained[-1].initialize()
    built.trained[-1](mx.nd.zeros((1, 4096)))
    built.trained[-1].weight.set_data(noise(3, 4096, seed=seed))
    built.trained[-1].bias.set_data(noise(3, seed=seed))
    return built


def test_what_is_saved_is_loaded(vgg):
    built = trained()
    head.save(built, ABOUT)
    loaded, about = head.load(CPU)
    assert about == ABOUT
    np.testing.assert_array_equal(loaded.logits(noise(5, 4096)), built.logits(noise(5, 4096)))
    assert {layer._rate for layer in loaded.frozen if isinstance(layer, mx.gluon.nn.Dropout)} == {0}


def test_only_the_new_layer_is_saved(vgg):
    head.save(trained(), ABOUT)
    assert sorted(os.listdir(MODEL)) == ["head.json", "head.params"]
    saved = mx.nd.load(str(MODEL / "head.params"))
    assert {name: value.shape for name, value in saved.items()} == {"0.weight": (3, 4096), "0.bias": (3,)}
    assert json.loads((MODEL / "head.json").read_text(encoding="utf-8")) == ABOUT


def test_saving_replaces_what_was_there(vgg):
    MODEL.mkdir(parents=True)
    (MODEL / "older").touch()
    head.save(trained(seed=1), ABOUT)
    first = (MODEL / "head.params").read_bytes()
    head.save(trained(seed=2), ABOUT)
    second = (MODEL / "head.params").read_bytes()
    head.save(trained(seed=1), ABOUT)
    assert sorted(os.listdir(MODEL)) == ["head.json", "head.params"]
    assert (MODEL / "head.params").read_bytes() == first != second
