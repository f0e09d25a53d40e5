"""ResNet and Wide ResNet as torchvision has them: the stride on the 3×3 convolution, and no biases.

He et al. 2015 (arXiv:1512.03385), Zagoruyko & Komodakis 2016 (arXiv:1605.07146). Gluon's own deep ResNets put the
stride on the first 1×1 convolution, and have biases: other weights. timm's files, such as those of
``resnet50.tv_in1k``, name the tensors as torchvision does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.backbones.families.family import Family, Network, bring, layers_of, torch_names
from stages.backend.mx import mx


class Size(NamedTuple):
    """blocks: of each stage. bottleneck: whether a block is 1×1, 3×3, 1×1 with four times the channels at its end.

    width: of a bottleneck's 3×3 convolution in the first stage. digest: in the name of torchvision's file.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int
    digest: str


SIZES = {
    "resnet18": Size((2, 2, 2, 2), False, 64, "f37072fd"),
    "resnet34": Size((3, 4, 6, 3), False, 64, "b627a593"),
    "resnet50": Size((3, 4, 6, 3), True, 64, "0676ba61"),
    "resnet101": Size((3, 4, 23, 3), True, 64, "63fe2227"),
    "wide_resnet50_2": Size((3, 4, 6, 3), True, 128, "95faca4d"),
}
STEM = 64

ENDS = {"features.0": "conv1", "features.1": "bn1", "output": "fc"}
# A block's layers by their place in its sequence, where every third is a ReLU.
BODY = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


def network(name: str) -> Network:
    """``features``: (n, 3, side, side) → (n, 512 or 2048); ``output``: → (n, 1000) logits."""
    from stages.backbones import blocks

    nn, size = mx.gluon.nn, SIZES[name]
    features = nn.HybridSequential()
    _convolution(features, STEM, 7, stride=2)
    features.add(nn.Activation("relu"), nn.MaxPool2D(3, 2, 1))
    channels = STEM
    for index, count in enumerate(size.blocks):
        stage, width = nn.HybridSequential(), size.width << index
        out = (STEM << index) * (4 if size.bottleneck else 1)
        for number in range(count):
            stride = 2 if index > 0 and number == 0 else 1
            shortcut = None
            if channels != out or stride != 1:
                shortcut = nn.HybridSequential()
                _convolution(shortcut, out, 1, stride)
            stage.add(blocks.Residual(_body(size.bottleneck, width, out, stride), shortcut))
            channels = out
        features.add(stage)
    features.add(nn.GlobalAvgPool2D(), nn.Flatten())
    return blocks.Classifier(features, nn.Dense(1000, in_units=channels))


def _body(bottleneck: bool, width: int, out: int, stride: int) -> Any:
    # Kernel, stride and channels of each convolution.
    rows = ((1, 1, width), (3, stride, width), (1, 1, out)) if bottleneck else ((3, stride, width), (3, 1, out))
    body = mx.gluon.nn.HybridSequential()
    for number, (kernel, step, channels) in enumerate(rows):
        if number:
            body.add(mx.gluon.nn.Activation("relu"))
        _convolution(body, channels, kernel, step)
    return body


def _convolution(sequence: Any, channels: int, kernel: int, stride: int = 1) -> None:
    nn = mx.gluon.nn
    sequence.add(nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=False), nn.BatchNorm(epsilon=1e-5))


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    return [torch_names(parameters, [_layer(layer) for layer in layers_of(parameters)])]


def _layer(layer: str) -> str:
    if layer in ENDS:
        return ENDS[layer]
    # features.4.0.layers.3 → layer1.0.conv2, features.5.0.shortcut.1 → layer2.0.downsample.1
    _, stage, block, part, place = layer.split(".")
    inner = BODY[place] if part == "layers" else f"downsample.{place}"
    return f"layer{int(stage) - 3}.{block}.{inner}"


def _published(name: str) -> tuple[Path, str]:
    bring(name, f"curl -LO https://download.pytorch.org/models/{name}-{SIZES[name].digest}.pth")


FAMILY = Family(network, _namings, _published)
