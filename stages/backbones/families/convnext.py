"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545), in timm's files and in torchvision's.

Layer scale, which multiplies what a block adds, is taken into the block's last convolution as the file is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.backbones.families.family import Family, Network, bring, hub, torch_names
from stages.backbones.files.binary import Tensors
from stages.backend.mx import mx
from stages.common.errors import InputError

WIDTHS = (96, 192, 384, 768)
# Name: blocks of each stage.
SIZES = {"convnext_tiny": (3, 3, 9, 3), "convnext_small": (3, 3, 27, 3)}
EPSILON = 1e-6


class Files(NamedTuple):
    """What a kind of file calls the layers, with the numbers of stage and block to be filled in.

    stem: convolution and norm; end: norm and classifier; reduction: norm and convolution before every other stage.
    block: convolution, norm, the two layers behind; scale: the tensor that multiplies what they give.
    first: the number of the first stage, step: from one stage to the next.
    """

    stem: tuple[str, str]
    end: tuple[str, str]
    reduction: tuple[str, str]
    block: tuple[str, str, str, str]
    scale: str
    first: int = 0
    step: int = 1

    def names(self, name: str) -> Iterator[str]:
        """The layers of the network ``name``, in its order."""
        yield from self.stem
        for index, stage in enumerate(self._stages()):
            if index:
                yield from (layer.format(stage, stage - 1) for layer in self.reduction)
            for number in range(SIZES[name][index]):
                yield from (layer.format(stage, number) for layer in self.block)
        yield from self.end

    def scaled(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Of each block, its last two layers and its scale."""
        for index, stage in enumerate(self._stages()):
            for number in range(SIZES[name][index]):
                _, _, widening, last = self.block
                yield widening.format(stage, number), last.format(stage, number), self.scale.format(stage, number)

    def _stages(self) -> range:
        return range(self.first, self.first + self.step * len(WIDTHS), self.step)


_TIMM = "stages.{}.blocks.{}."
_TORCHVISION = "features.{}.{}."
FILES = (
    Files(
        ("stem.0", "stem.1"),
        ("head.norm", "head.fc"),
        ("stages.{}.downsample.0", "stages.{}.downsample.1"),
        (f"{_TIMM}conv_dw", f"{_TIMM}norm", f"{_TIMM}mlp.fc1", f"{_TIMM}mlp.fc2"),
        f"{_TIMM}gamma",
    ),
    Files(
        ("features.0.0", "features.0.1"),
        ("classifier.0", "classifier.2"),
        ("features.{1}.0", "features.{1}.1"),
        (f"{_TORCHVISION}block.0", f"{_TORCHVISION}block.2", f"{_TORCHVISION}block.3", f"{_TORCHVISION}block.5"),
        f"{_TORCHVISION}layer_scale",
        first=1,
        step=2,
    ),
)


def network(name: str) -> Network:
    """``features``: (n, 3, side, side) → (n, 768), behind the last norm; ``output``: (n, 768) → (n, 1000) logits."""
    from stages.backbones import blocks

    nn = mx.gluon.nn
    features = nn.HybridSequential()
    features.add(nn.Conv2D(WIDTHS[0], 4, 4), _norm())
    for index, (count, width) in enumerate(zip(SIZES[name], WIDTHS)):
        if index:
            reduction = nn.HybridSequential()
            reduction.add(_norm(), nn.Conv2D(width, 2, 2))
            features.add(reduction)
        stage = nn.HybridSequential()
        for _ in range(count):
            layers = nn.HybridSequential()
            layers.add(nn.Conv2D(width, 7, padding=3, groups=width), _norm())
            layers.add(nn.Conv2D(4 * width, 1), nn.GELU(), nn.Conv2D(width, 1))
            stage.add(blocks.Unit(layers, residual=True))
        features.add(stage)
    features.add(nn.GlobalAvgPool2D(), _norm(), nn.Flatten())
    return blocks.Classifier(features, nn.Dense(1000, in_units=WIDTHS[-1]))


def _norm() -> Network:
    # Over the channels of each position.
    return mx.gluon.nn.LayerNorm(axis=1, epsilon=EPSILON)


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    return [torch_names(parameters, list(files.names(name))) for files in FILES]


def _adapted(name: str, tensors: Tensors) -> Tensors:
    """With dense layers as convolutions, and the last one of each block times its scale.

    Raises InputError where a block has no scale.
    """
    adapted = dict(tensors)
    for files in FILES:
        for widening, last, scale in files.scaled(name):
            if f"{last}.weight" not in tensors:
                continue
            if scale not in tensors:
                raise InputError(f"{name} needs {scale}, which the weights file does not have")
            for layer in (widening, last):
                if f"{layer}.weight" in adapted and adapted[f"{layer}.weight"].ndim == 2:
                    adapted[f"{layer}.weight"] = adapted[f"{layer}.weight"][:, :, None, None]
            _scale(adapted, last, scale)
    return adapted


def _scale(tensors: Tensors, layer: str, scale: str) -> None:
    # Where anything is not as it should be the tensors stay as they are, to be complained of when they are matched.
    parts = [tensors.get(f"{layer}.{part}") for part in ("weight", "bias")]
    factor = tensors[scale].reshape(-1)
    if any(part is None or part.shape[:1] != factor.shape or part.dtype.kind != "f" for part in (*parts, factor)):
        return
    for part, array in zip(("weight", "bias"), parts):
        if array is not None:
            factors = factor.astype(np.float32).reshape(-1, *(1,) * (array.ndim - 1))
            tensors[f"{layer}.{part}"] = array.astype(np.float32) * factors
    del tensors[scale]


def _published(name: str) -> tuple[Path, str]:
    bring(name, hub(f"timm/{name}.in12k_ft_in1k"))


FAMILY = Family(network, _namings, _published, _adapted)
