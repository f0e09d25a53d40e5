"""The head: what is kept of the backbone behind the cut, and one dense layer that learns."""

import numpy as np
import pytest

from stages.backbones import zoo
from stages.backend.mx import mx
from stages.classifier import head
from tests.classifier.made import network
from tests.conftest import BACKBONE

CPU = mx.cpu()


def kinds(built):
    return [type(layer).__name__ for layer in built.frozen]


def noise(*shape, seed=0):
    return mx.nd.array(np.random.default_rng(seed).standard_normal(shape, np.float32))


def with_output_of(built, whole):
    """The head with the network's own last layer in place of the new one."""
    built.trained[-1].initialize()
    built.trained[-1](mx.nd.zeros((1, whole.output.weight.shape[1])))
    built.trained[-1].weight.set_data(whole.output.weight.data())
    built.trained[-1].bias.set_data(whole.output.bias.data())
    return built


# --- What it is made of ----------------------------------------------------------------------------------------------


def test_behind_pooled_features_there_is_a_dropout_and_the_new_layer(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    built = head.build(network(), "pool", 7, 0.5, "last", [CPU])
    assert kinds(built) == ["Dropout"]
    assert not list(built.frozen.collect_params())
    assert (type(built.trained[-1]), built.trained[-1]._units, built.trained[-1].act) == (mx.gluon.nn.Dense, 7, None)


def test_a_backbone_with_its_own_dropout_gets_no_second_one(workspace, tmp_path):
    squeezenet = zoo.build("squeezenet1.1")
    squeezenet.initialize()
    squeezenet(mx.nd.zeros((1, 3, 224, 224))).wait_to_read()
    squeezenet.save_parameters(str(tmp_path / "squeezenet.params"))
    workspace("squeezenet1.1", tmp_path / "squeezenet.params")
    assert kinds(head.build(network(), "pool", 7, 0.5, "last", [CPU])) == ["Dropout"]


@pytest.mark.parametrize(
    ("cut", "kept"), [("fc6", ["Dropout", "Dense", "Dropout"]), ("conv", ["Dense", "Dropout", "Dense", "Dropout"])]
)
def test_dense_layers_of_vgg_behind_the_cut_are_kept(vgg, cut, kept):
    built = head.build(network(), cut, 7, 0.5, "last", [CPU])
    assert kinds(built) == kept
    dense = [layer for layer in built.frozen if isinstance(layer, mx.gluon.nn.Dense)]
    theirs = [layer for layer in vgg.features if isinstance(layer, mx.gluon.nn.Dense)][-len(dense) :]
    for ours, original in zip(dense, theirs):
        np.testing.assert_array_equal(ours.weight.data().asnumpy(), original.weight.data().asnumpy())
        np.testing.assert_array_equal(ours.bias.data().asnumpy(), original.bias.data().asnumpy())


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_there_are_gradients_only_where_mxnet_trains(vgg, cut):
    for trainable, wanted in (("last", "null"), ("all", "write")):
        built = head.build(network(), cut, 7, 0.5, trainable, [CPU])
        assert {parameter.grad_req for parameter in built.trained.collect_params().values()} == {wanted}
        assert {parameter.grad_req for parameter in built.frozen.collect_params().values()} <= {"null"}


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_every_dropout_has_the_given_rate(vgg, cut):
    built = head.build(network(), cut, 7, 0.125, "last", [CPU])
    assert [layer._rate for layer in built.frozen if isinstance(layer, mx.gluon.nn.Dropout)] == [0.125, 0.125]


def test_dropout_drops_in_training_only(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    built = head.build(network(), "pool", 7, 0.25, "last", [CPU])
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
    built = with_output_of(head.build(network(), cut, 20, 0.5, "last", [CPU]), vgg)
    np.testing.assert_allclose(built.logits(zoo.body(vgg, cut)(images)), expected, rtol=1e-5, atol=1e-5)


def test_pooled_features_through_the_head_are_the_whole_network(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    whole, images = network(), noise(2, 3, 224, 224)
    # MobileNet's own output is a dense layer over all features.
    built = with_output_of(head.build(network(), "pool", 1000, 0.5, "last", [CPU]), whole)
    logits = built.logits(zoo.body(whole, "pool")(images))
    np.testing.assert_allclose(logits, whole(images).asnumpy(), rtol=1e-5, atol=1e-5)


def test_logits_do_not_depend_on_the_batch_size(vgg):
    built = with_output_of(head.build(network(), "fc6", 20, 0.5, "last", [CPU]), vgg)
    features = noise(7, 4096)
    expected = built.logits(features)
    assert (expected.shape, expected.dtype) == ((7, 20), np.float32)
    for size in (1, 3, 4):
        parts = [built.logits(features[start : start + size]) for start in range(0, 7, size)]
        np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-5, atol=1e-4)


# --- From values -----------------------------------------------------------------------------------------------------


def values(built):
    return {name: value.data().asnumpy() for name, value in zoo.named_parameters(built.layers).items()}


@pytest.mark.parametrize("trainable", ["last", "all"])
@pytest.mark.parametrize(("cut", "dense"), [("fc6", [1, 3]), ("conv", [0, 2, 4])])
def test_all_layers_are_named_by_their_place_behind_the_cut(vgg, trainable, cut, dense):
    built = with_output_of(head.build(network(), cut, 20, 0.5, trainable, [CPU]), vgg)
    assert list(values(built)) == [f"{place}.{name}" for place in dense for name in ("weight", "bias")]


@pytest.mark.parametrize("cut", ["fc6", "conv"])
def test_a_head_is_built_from_values_and_a_network_without_any(vgg, cut):
    built = with_output_of(head.build(network(), cut, 20, 0.5, "all", [CPU]), vgg)
    contexts = [mx.cpu(0), mx.cpu(1)]
    again = head.build(zoo.build("vgg16"), cut, 20, 0.0, "last", contexts, values(built))
    assert set(again.layers.collect_params().list_ctx()) == set(contexts)
    features = noise(5, *again.layers[0 if cut == "conv" else 1].weight.shape[1:])
    np.testing.assert_array_equal(again.logits(features), built.logits(features))


def spoiled(values):
    yield {name: value for name, value in values.items() if name != "1.bias"}
    yield {**values, "4.weight": values["3.weight"]}
    yield {**values, "1.weight": values["1.weight"][:100]}


@pytest.mark.parametrize("case", range(3))
def test_values_of_another_head_are_refused(vgg, case):
    of_vgg = values(with_output_of(head.build(network(), "fc6", 20, 0.5, "last", [CPU]), vgg))
    with pytest.raises(ValueError, match="^these are not the parameters of this head$"):
        head.build(zoo.build("vgg16"), "fc6", 20, 0.0, "last", [CPU], list(spoiled(of_vgg))[case])
