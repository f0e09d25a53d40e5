"""MobileNetV3-Large (Howard et al. 2019, arXiv:1905.02244, table 1).

``mobilenetv3_large_100``: timm's weights. ``mobilenet_v3_large``: torchvision's, with another epsilon of the batch
norms. The feature is that of the layer between pooling and classifier, behind its hard swish: in timm
``forward_head(…, pre_logits=True)``, in torchvision what leaves ``classifier[1]``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.backbones import catalogue
from stages.backbones.families.efficientnet_lite import round_channels
from stages.backbones.families.family import Family, Network, bring, hub, torch_names
from stages.backbones.families.inverted import Block, Builder, numbered, parts, timm_names, torchvision_names
from stages.backbones.files.binary import Tensors
from stages.backend.mx import mx

STEM, LAST, HEAD = 16, 960, 1280
# By stage, per block: kernel, stride, channels in the middle and at the end, squeeze and excitation, hard swish.
STAGES = (
    ((3, 1, 16, 16, False, False),),
    ((3, 2, 64, 24, False, False), (3, 1, 72, 24, False, False)),
    ((5, 2, 72, 40, True, False), *((5, 1, 120, 40, True, False),) * 2),
    ((3, 2, 240, 80, False, True), (3, 1, 200, 80, False, True), *((3, 1, 184, 80, False, True),) * 2),
    ((3, 1, 480, 112, True, True), (3, 1, 672, 112, True, True)),
    ((5, 2, 672, 160, True, True), *((5, 1, 960, 160, True, True),) * 2),
)
COUNTS = [len(stage) for stage in STAGES]

# Name: epsilon of the batch norms, and what gets the file of weights.
NETWORKS = {
    "mobilenetv3_large_100": (1e-5, hub("timm/mobilenetv3_large_100.ra_in1k")),
    "mobilenet_v3_large": (1e-3, "curl -LO https://download.pytorch.org/models/mobilenet_v3_large-8738ca79.pth"),
}


def network(name: str) -> Network:
    """``features``: (n, 3, side, side) → (n, 1280); ``output``: (n, 1280) → (n, 1000) logits."""
    from stages.backbones import blocks

    nn, epsilon = mx.gluon.nn, NETWORKS[name][0]

    def relu() -> blocks.Layer:
        return nn.Activation("relu")

    builder = Builder(catalogue.find(name).size, epsilon, same=False, excitation=(relu, blocks.HardSigmoid))
    builder.convolution(STEM, 3, 2, blocks.HardSwish)
    for kernel, stride, wide, out, excited, hard_swish in (row for stage in STAGES for row in stage):
        squeezed = round_channels(wide, 1 / 4) if excited else 0
        builder.block(Block(kernel, stride, wide, out, squeezed, blocks.HardSwish if hard_swish else relu))
    builder.convolution(LAST, 1, 1, blocks.HardSwish)
    builder.features.add(nn.GlobalAvgPool2D(), nn.Conv2D(HEAD, 1), blocks.HardSwish(), nn.Flatten())
    return blocks.Classifier(builder.features, nn.Dense(1000, in_units=HEAD))


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    names = _timm if name == "mobilenetv3_large_100" else _torchvision
    return [torch_names(parameters, list(names(parameters)))]


def _timm(parameters: Sequence[str]) -> Iterator[str]:
    yield from ("conv_stem", "bn1")
    for number, block in zip(numbered(COUNTS), parts(parameters)):
        yield from timm_names(f"blocks.{number}", block)
    yield from ("blocks.6.0.conv", "blocks.6.0.bn1", "conv_head", "classifier")


def _torchvision(parameters: Sequence[str]) -> Iterator[str]:
    yield from ("features.0.0", "features.0.1")
    for number, block in enumerate(parts(parameters), 1):
        yield from torchvision_names(f"features.{number}", block)
    yield from ("features.16.0", "features.16.1", "classifier.0", "classifier.3")


def _adapted(name: str, tensors: Tensors) -> Tensors:
    # A dense layer in torchvision, in timm a convolution over one position.
    key = "classifier.0.weight"
    return {**tensors, key: tensors[key][..., None, None]} if key in tensors else tensors


def _published(name: str) -> tuple[Path, str]:
    bring(name, NETWORKS[name][1])


FAMILY = Family(network, _namings, _published, _adapted)
