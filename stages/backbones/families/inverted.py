"""Inverted residual blocks, of which EfficientNet, Lite too, and MobileNetV3 are made; what files call them.

A block expands its channels (1×1), convolves each by itself (k×k), weighs them by squeeze and excitation, and projects
them to fewer (1×1); plus its input where the shape stays (Sandler et al. 2018, arXiv:1801.04381).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

from stages.backbones.families.family import layers_of
from stages.backend.mx import mx

Layer = Any  # an mx.gluon.HybridBlock; MXNet has no types
Activation = Optional[Callable[[], Layer]]  # what makes the layer
Excitation = tuple[Callable[[], Layer], Callable[[], Layer]]  # what makes its (activation, gate)

CONVOLUTION, EXCITATION = "convolution", "excitation"


class Block(NamedTuple):
    """One block: its kernel and stride, its channels in the middle and at the end.

    activation: behind the first two convolutions. squeezed: channels between the two layers of squeeze
    and excitation; 0 for none.
    """

    kernel: int
    stride: int
    wide: int
    out: int
    squeezed: int
    activation: Activation


class Builder:
    """Adds layers to ``features``, an empty sequence at first, for images of ``side`` pixels.

    epsilon: of the batch norms. same: whether paddings are TensorFlow's "same", with one pixel more at the end for
    stride 2 over an even side. excitation: that of the blocks which are ``squeezed``.
    """

    def __init__(self, side: int, epsilon: float, same: bool, excitation: Optional[Excitation] = None) -> None:
        self.features = mx.gluon.nn.HybridSequential()
        self._side, self._epsilon, self._same, self._excitation = side, epsilon, same, excitation
        self._channels = 3

    def convolution(self, channels: int, kernel: int, stride: int, activation: Activation) -> None:
        """Adds convolution, batch norm and ``activation`` to ``features``."""
        self._add(self.features, channels, kernel, stride, 1, activation)

    def block(self, block: Block) -> None:
        """Adds ``block`` to ``features``; without its first convolution where that would not widen the channels."""
        from stages.backbones import blocks

        layers, channels = mx.gluon.nn.HybridSequential(), self._channels
        if block.wide != channels:
            self._add(layers, block.wide, 1, 1, 1, block.activation)
        self._add(layers, block.wide, block.kernel, block.stride, block.wide, block.activation)
        if block.squeezed:
            assert self._excitation is not None
            activation, gate = self._excitation
            layers.add(blocks.SqueezeExcitation(block.wide, block.squeezed, activation(), gate()))
        self._add(layers, block.out, 1, 1, 1, None)
        self.features.add(blocks.Unit(layers, residual=block.stride == 1 and channels == block.out))

    def _add(
        self, sequence: Layer, channels: int, kernel: int, stride: int, groups: int, activation: Activation
    ) -> None:
        from stages.backbones import blocks

        nn, padding = mx.gluon.nn, kernel // 2
        if self._same and stride == 2 and self._side % 2 == 0:
            sequence.add(blocks.PadEnd(kernel))
            padding = 0
        sequence.add(nn.Conv2D(channels, kernel, stride, padding, groups=groups, use_bias=False))
        sequence.add(nn.BatchNorm(epsilon=self._epsilon))
        if activation is not None:
            sequence.add(activation())
        self._side, self._channels = math.ceil(self._side / stride), channels


def parts(parameters: Sequence[str]) -> Iterator[list[str]]:
    """What each block of a network consists of, in order: convolutions, each with its batch norm, and excitation.

    parameters: Gluon's structured names. Yields a list of ``CONVOLUTION`` and ``EXCITATION`` for each block.
    """
    inner = [layer for layer in layers_of(parameters) if ".layers." in layer]
    for _, layers in itertools.groupby(inner, key=lambda layer: layer.split(".layers.")[0]):
        # Each has two layers with parameters.
        yield [EXCITATION if layer.endswith(".reduce") else CONVOLUTION for layer in list(layers)[::2]]


def timm_names(prefix: str, block: Sequence[str]) -> Iterator[str]:
    """What timm's files call the layers of a ``block`` (see :func:`parts`) whose name there is ``prefix``."""
    widens = block.count(CONVOLUTION) == 3
    convolutions = iter(("conv_pw", "conv_dw", "conv_pwl") if widens else ("conv_dw", "conv_pw"))
    number = itertools.count(1)
    for part in block:
        own = ("se.conv_reduce", "se.conv_expand") if part == EXCITATION else (next(convolutions), f"bn{next(number)}")
        yield from (f"{prefix}.{name}" for name in own)


def torchvision_names(prefix: str, block: Sequence[str]) -> Iterator[str]:
    """The same for torchvision's files."""
    for place, part in enumerate(block):
        yield from (f"{prefix}.block.{place}.{name}" for name in (("fc1", "fc2") if part == EXCITATION else "01"))


def numbered(counts: Sequence[int]) -> Iterator[str]:
    """The numbers of blocks as files have them, "0.0", "0.1", "1.0", …: so many of ``counts`` in each stage."""
    for stage, count in enumerate(counts):
        yield from (f"{stage}.{number}" for number in range(count))
