"""EfficientNet with squeeze and excitation and SiLU (Tan & Le 2019, arXiv:1905.11946).

``efficientnet_b*``: trained in PyTorch. torchvision's files of B0 to B2 ("rwightman") are timm's weights under other
names. ``tf_efficientnet_b*``: trained in TensorFlow and converted by timm, with TensorFlow's "same" padding and
another epsilon of the batch norms.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.backbones import catalogue
from stages.backbones.families.efficientnet_lite import HEAD, STAGES, STEM, round_channels
from stages.backbones.families.family import Family, Network, bring, hub, torch_names
from stages.backbones.families.inverted import Block, Builder, numbered, parts, timm_names, torchvision_names
from stages.backend.mx import mx

# Name without "tf_": width and depth multipliers, and the weights at the Hugging Face hub, of either kind.
SIZES = {
    "efficientnet_b0": (1.0, 1.0, "efficientnet_b0.ra_in1k", "tf_efficientnet_b0.ns_jft_in1k"),
    "efficientnet_b1": (1.0, 1.1, "efficientnet_b1.ra4_e3600_r240_in1k", "tf_efficientnet_b1.ns_jft_in1k"),
    "efficientnet_b1.ft_in1k": (1.0, 1.1, "efficientnet_b1.ft_in1k", ""),
    "efficientnet_b2": (1.1, 1.2, "efficientnet_b2.ra_in1k", "tf_efficientnet_b2.ns_jft_in1k"),
}


def network(name: str) -> Network:
    """``features``: (n, 3, side, side) → (n, 1280 or 1408); ``output``: → (n, 1000) logits."""
    from stages.backbones import blocks

    nn = mx.gluon.nn
    tensorflow, (width, depth, *_) = name.startswith("tf_"), SIZES[name.removeprefix("tf_")]
    builder = Builder(
        catalogue.find(name).size,
        epsilon=1e-3 if tensorflow else 1e-5,
        same=tensorflow,
        excitation=(blocks.Swish, lambda: nn.Activation("sigmoid")),
    )
    channels = round_channels(STEM, width)
    builder.convolution(channels, 3, 2, blocks.Swish)
    for (_, kernel, stride, expansion, out), repeats in zip(STAGES, _repeats(depth)):
        out = round_channels(out, width)
        for _ in range(repeats):
            builder.block(Block(kernel, stride, channels * expansion, out, channels // 4, blocks.Swish))
            channels, stride = out, 1
    head = round_channels(HEAD, width)
    builder.convolution(head, 1, 1, blocks.Swish)
    builder.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
    return blocks.Classifier(builder.features, nn.Dense(1000, in_units=head))


def _repeats(depth: float) -> list[int]:
    # Unlike Lite's, every stage is deepened.
    return [math.ceil(repeats * depth) for repeats, *_ in STAGES]


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    kinds = [_timm] if name.startswith("tf_") else [_timm, _torchvision]
    return [torch_names(parameters, list(kind(name, parameters))) for kind in kinds]


def _timm(name: str, parameters: Sequence[str]) -> Iterator[str]:
    yield from ("conv_stem", "bn1")
    for number, block in zip(_numbers(name), parts(parameters)):
        yield from timm_names(f"blocks.{number}", block)
    yield from ("conv_head", "bn2", "classifier")


def _torchvision(name: str, parameters: Sequence[str]) -> Iterator[str]:
    yield from ("features.0.0", "features.0.1")
    for number, block in zip(_numbers(name), parts(parameters)):
        stage, _, inner = number.partition(".")
        yield from torchvision_names(f"features.{int(stage) + 1}.{inner}", block)
    yield from ("features.8.0", "features.8.1", "classifier.1")


def _numbers(name: str) -> Iterator[str]:
    return numbered(_repeats(SIZES[name.removeprefix("tf_")][1]))


def _published(name: str) -> tuple[Path, str]:
    _, _, pytorch, tensorflow = SIZES[name.removeprefix("tf_")]
    bring(name, hub(f"timm/{tensorflow if name.startswith('tf_') else pytorch}"))


FAMILY = Family(network, _namings, _published)
