"""Gluon blocks that networks are put together from. Importing this loads MXNet: families do so when they need it."""

from typing import Any

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
