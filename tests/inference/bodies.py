"""Frozen bodies with random weights that tests compile, and the batches they get."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np

from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backbones.families import clip, vit
from stages.backend.mx import mx

# One of each kind, with the side of the images: smaller where the real one takes long and the layers allow it.
NETWORKS = {
    "efficientnet_lite0": 224, "mobilenet0.25": 224, "mobilenetv2_0.25": 224, "squeezenet1.1": 224, "alexnet": 224,
    "resnet18_v1": 96, "resnet18_v2": 96, "densenet121": 224, "inceptionv3": 299, "vgg11_bn": 64,
    "resnet50": 96, "efficientnet_b0": 96, "tf_efficientnet_b0": 96, "mobilenet_v3_large": 96, "convnext_tiny": 64,
    "vit_small_patch16_224": 224, "vit_small_patch14_reg4_dinov2": 224, "clip_vit_b32_quickgelu": 224,
}  # fmt: skip


def random_body(name, size):
    """The frozen body of :func:`random_network`."""
    return zoo.body(random_network(name, size), "auto")


def random_network(name, size):
    """The network ``name`` with random weights, whose batch norms fit them: features differ between images."""
    mx.random.seed(1)
    np.random.seed(1)
    # Of a transformer's twelve blocks, which are all alike but for the last.
    with patch.object(vit, "BLOCKS", 2), patch.object(clip, "BLOCKS", 2):
        network = zoo.build(name)
    network.initialize(mx.init.Xavier(magnitude=4))
    body = zoo.body(network, "auto")
    body(mx.nd.zeros((1, 3, size, size))).wait_to_read()
    random = np.random.default_rng(1)
    for key, parameter in body.collect_params().items():
        if key.endswith("gamma"):
            parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
        elif key.endswith(("bias", "beta")):
            parameter.set_data(mx.nd.array(random.normal(0, 0.2, parameter.shape)))
    hooks = []
    body.apply(lambda layer: hooks.append(layer.register_forward_pre_hook(_fit_batch_norm)))
    body(mx.nd.array(images(4, size)))
    for hook in hooks:
        hook.detach()
    return network


def _fit_batch_norm(layer, inputs):
    if isinstance(layer, mx.gluon.nn.BatchNorm):
        layer.running_mean.set_data(inputs[0].mean(axis=(0, 2, 3)))
        layer.running_var.set_data(mx.nd.array(inputs[0].asnumpy().var((0, 2, 3))))


def backbone(name):
    return replace(BACKBONES[name], size=NETWORKS[name])


def images(count, size):
    """Noise of another strength and colour in each: float32 (count, 3, size, size)."""
    random = np.random.default_rng(2)
    noise = random.standard_normal((count, 3, size, size))
    return (noise * random.uniform(0.2, 1, (count, 3, 1, 1)) + random.normal(size=(count, 3, 1, 1))).astype(np.float32)


def error(computed, expected):
    return np.abs(computed - expected).max() / np.abs(expected).max()


def padding(top, bottom, left, right, value=0):
    """A layer that pads maps with ``value``."""
    sides = (0, 0, 0, 0, top, bottom, left, right)
    return mx.gluon.nn.HybridLambda(lambda F, x: F.pad(x, mode="constant", constant_value=value, pad_width=sides))
