"""EfficientNet-Lite as a Gluon network.

EfficientNet (Tan & Le 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6; stem and head
keep their width in every size. Block table and scaling: `efficientnet_lite_builder.py` in TensorFlow's tpu
repository (models/official/efficientnet/lite). Importing this loads MXNet: ``zoo.build`` does so when it needs it.
"""

import math
from typing import Any

from stages.backend.mx import mx

nn = mx.gluon.nn

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


def _round_channels(channels: int, width: float) -> int:
    # Multiples of 8, never below 90 % of the scaled width.
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


class PadEnd(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Zero padding for a stride-2 convolution over an even side: TensorFlow's "same" has one pixel more at the end."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self._sides = ((kernel - 2) // 2, (kernel - 1) // 2)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.pad(x, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, *self._sides, *self._sides))


def _convolution(
    sequence: Any, side: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, relu6: bool = True
) -> int:
    """Adds convolution, batch norm and ReLU6 for an input of ``side`` pixels; returns the output's side."""
    if stride == 2 and side % 2 == 0:
        sequence.add(PadEnd(kernel))
        padding = 0
    else:
        padding = kernel // 2
    sequence.add(nn.Conv2D(channels, kernel, stride, padding, groups=groups, use_bias=False))
    sequence.add(nn.BatchNorm(epsilon=EPSILON))
    if relu6:
        sequence.add(nn.HybridLambda(lambda F, x: F.clip(x, 0, 6), prefix="relu6_"))
    return math.ceil(side / stride)


class InvertedResidual(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Expand (1×1), depthwise (k×k), project (1×1); plus the input where the shape stays."""

    def __init__(self, side: int, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self._shortcut = stride == 1 and in_channels == channels
        wide = in_channels * expansion
        with self.name_scope():
            self.layers = nn.HybridSequential()
            if expansion != 1:
                _convolution(self.layers, side, wide, 1)
            side = _convolution(self.layers, side, wide, kernel, stride, groups=wide)
            _convolution(self.layers, side, channels, 1, relu6=False)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        y = self.layers(x)
        return x + y if self._shortcut else y


class EfficientNetLite(mx.gluon.HybridBlock):  # type: ignore[misc]
    """``features``: (n, 3, side, side) → (n, 1280), a dropout last; ``output``: (n, 1280) → (n, classes) logits."""

    def __init__(self, name: str, side: int, classes: int = 1000) -> None:
        super().__init__()
        width, depth, dropout = SIZES[name]
        with self.name_scope():
            self.features = nn.HybridSequential()
            side = _convolution(self.features, side, STEM, 3, stride=2)
            channels = STEM
            for index, (repeats, kernel, stride, expansion, out) in enumerate(STAGES):
                out = _round_channels(out, width)
                # The first and the last stage are not deepened.
                if index not in (0, len(STAGES) - 1):
                    repeats = math.ceil(repeats * depth)
                for _ in range(repeats):
                    self.features.add(InvertedResidual(side, channels, out, kernel, stride, expansion))
                    side, channels, stride = math.ceil(side / stride), out, 1
            _convolution(self.features, side, HEAD, 1)
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dropout(dropout))
            self.output = nn.Dense(classes, in_units=HEAD)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))
