"""Gluon blocks that networks are put together from. Importing this loads MXNet: families do so when they need it."""

from typing import Any, Optional

from stages.backend.mx import mx

Layer = Any  # an mx.gluon.HybridBlock; MXNet has no types


class Classifier(mx.gluon.HybridBlock):  # type: ignore[misc]
    """``features``, then ``output``: (n, 3, side, side) → (n, classes) logits."""

    def __init__(self, features: Layer, output: Layer) -> None:
        super().__init__()
        self.features, self.output = features, output

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class Unit(mx.gluon.HybridBlock):  # type: ignore[misc]
    """``layers``; with ``residual`` plus their input."""

    def __init__(self, layers: Layer, residual: bool) -> None:
        super().__init__()
        self.layers, self._residual = layers, residual

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        y = self.layers(x)
        return x + y if self._residual else y


class PadEnd(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Zero padding for a stride-2 convolution over an even side: TensorFlow's "same" has one pixel more at the end."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self._sides = ((kernel - 2) // 2, (kernel - 1) // 2)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.pad(x, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, *self._sides, *self._sides))


class Residual(mx.gluon.HybridBlock):  # type: ignore[misc]
    """``layers`` plus the input, as ``shortcut`` has it where its shape is another; then ReLU."""

    def __init__(self, layers: Layer, shortcut: Optional[Layer]) -> None:
        super().__init__()
        self.layers, self.shortcut = layers, shortcut

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        y = self.layers(x) + (x if self.shortcut is None else self.shortcut(x))
        return F.Activation(y, act_type="relu")


class SqueezeExcitation(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Each channel times a number that all channels' means decide (Hu et al. 2018, arXiv:1709.01507).

    channels: of the input; squeezed: of the layer in between, behind which is ``activation``; gate: what makes the
    numbers of the second layer's outputs.
    """

    def __init__(self, channels: int, squeezed: int, activation: Layer, gate: Layer) -> None:
        super().__init__()
        self.pool = mx.gluon.nn.GlobalAvgPool2D()
        self.reduce, self.activation = mx.gluon.nn.Conv2D(squeezed, 1), activation
        self.expand, self.gate = mx.gluon.nn.Conv2D(channels, 1), gate

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        gate = self.gate(self.expand(self.activation(self.reduce(self.pool(x)))))
        return F.broadcast_mul(x, gate)


class Swish(mx.gluon.HybridBlock):  # type: ignore[misc]
    """x · sigmoid(x), in PyTorch SiLU."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.elemwise_mul(x, F.Activation(x, act_type="sigmoid"))


class HardSigmoid(mx.gluon.HybridBlock):  # type: ignore[misc]
    """min(max(x + 3, 0), 6) / 6."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.hard_sigmoid(x, alpha=1 / 6, beta=1 / 2)


class HardSwish(HardSigmoid):
    """x · min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, arXiv:1905.02244, section 5.2)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.elemwise_mul(x, super().hybrid_forward(F, x))
