"""Body and head as one graph: what the two compute one after the other."""

import numpy as np
import pytest

from stages.backbones import catalogue, zoo
from stages.backend.mx import mx
from stages.classifier import head
from stages.exports import graph, onnx
from stages.inference.compile import compiled
from tests.exports.running import assert_same, by_mxnet, by_onnx
from tests.inference.bodies import NETWORKS, backbone, images, random_network


@pytest.mark.parametrize(("cut", "trainable"), [("fc6", "last"), ("conv", "last"), ("fc6", "all")])
def test_the_dense_layers_of_vgg_are_in_it(vgg, tmp_path, cut, trainable):
    batch = mx.nd.array(np.random.default_rng(1).standard_normal((3, 3, 224, 224), np.float32))
    built = head.build(vgg, cut, 4, 0.0, trainable, [mx.cpu()])
    # Whatever the tests before drew, this one draws the same.
    mx.random.seed(5)
    built.trained[-1].initialize(mx.init.Normal(0.2))
    computed = compiled(zoo.body(vgg, cut), batch.shape)(batch.asnumpy())
    expected = mx.nd.softmax(mx.nd.array(built.logits(computed.asnumpy()))).asnumpy()
    assert expected.std(axis=0).max() > 0.01

    joined = graph.join(vgg, catalogue.find("vgg16"), cut, built.layers)
    # fc6, fc7 and the trained layer, each with weights and bias.
    assert sum("dense" in name for name in joined.arrays) == 6
    graph.save(joined, tmp_path)
    onnx.write(joined, 224, tmp_path / "model.onnx")
    for runner in (by_mxnet, by_onnx):
        assert_same(runner(tmp_path, batch.asnumpy()), expected)


@pytest.mark.parametrize(
    "name",
    [
        "resnet50",
        "tf_efficientnet_b0",
        "mobilenet_v3_large",
        "convnext_tiny",
        "vit_small_patch14_reg4_dinov2",
        "clip_vit_b32_quickgelu",
    ],
)
def test_every_family_is_exported_for_any_number_of_images(tmp_path, name):
    network, size = random_network(name, NETWORKS[name]), NETWORKS[name]
    batch = images(3, size)
    built = head.build(network, "pool", 4, 0.0, "last", [mx.cpu()])
    mx.random.seed(5)
    built.trained[-1].initialize(mx.init.Normal(0.2))
    computed = compiled(zoo.body(network, "pool"), batch.shape)(batch)
    expected = mx.nd.softmax(mx.nd.array(built.logits(computed.asnumpy()))).asnumpy()
    assert expected.std(axis=0).max() > 0.01

    joined = graph.join(network, backbone(name), "pool", built.layers)
    graph.save(joined, tmp_path)
    onnx.write(joined, size, tmp_path / "model.onnx")
    for runner in (by_mxnet, by_onnx):
        assert_same(runner(tmp_path, batch), expected)
