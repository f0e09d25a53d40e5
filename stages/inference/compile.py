"""Compiles a frozen body for inference: a faster graph for the same features.

The graph is simplified once (see ``rewrite``), and oneDNN then fuses convolution, activation and sum.

A feature depends on its image alone, to the last bit: not on the size of the batch, nor on the place in it, nor
on the neighbours. oneDNN computes every image of a convolution's batch by itself, so convolutions give
that away for free. A dense layer is one matrix product whose blocking changes with its number of rows;
it is computed as a convolution too (see ``rewrite``). One OpenMP thread is assumed throughout.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from stages.backend.mx import mx
from stages.inference import quantize
from stages.inference.calibrate import Calibration
from stages.inference.environment import check
from stages.inference.graph import Shape
from stages.inference.simplify import block, simplified
from stages.preprocessing.layout import Batch, Layout

# Part of the fingerprint of every stored feature: raise it when a change in this package changes their bytes.
VERSION = 3


# Images that a CPU is to compute at a time: what is at work lies in its caches for longer. EfficientNet-Lite0 in
# bfloat16 is a sixth faster with 8 than with 32, EfficientNet-B0 and ViT 5 to 8 %, VGG16 and ResNet-50 no slower.
PASS = 8


class Network(NamedTuple):
    """A body, compiled for batches of one shape.

    layout: of the batches that ``run`` takes, float32. run: returns a float32 NDArray (n, dim) on the device, which it
    goes on computing; the batch may be written to again at once.
    """

    layout: Layout
    run: Callable[[Batch], Any]

    def __call__(self, batch: Batch) -> Any:
        """The same for a batch as images are: (n, 3, size, size), upright."""
        return self.run(self.layout.laid(batch))


def compiled(
    body: Any,
    shape: Shape,
    precision: str = "float32",
    context: Any = None,
    calibration: Optional[Calibration] = None,
) -> Network:
    """Compiles ``body`` for batches of exactly ``shape``.

    body: ``zoo.body`` with float32 parameters.
    shape: (n, 3, size, size).
    precision: one of ``environment.PRECISIONS`` of the device.
    context: the device, by default the CPU.
    calibration: for int8, what ``calibrate.measure`` returned for the same body.

    Raises InputError if the device cannot compute in ``precision``.
    """
    context = context or mx.cpu()
    check(precision, context.device_type)
    symbol, parameters, layout = simplified(body, shape, precision, context.device_type)
    if precision == "int8":
        if calibration is None:
            raise ValueError("int8 needs the calibration of the body")
        symbol = quantize.fuse(symbol)
        symbol, parameters = quantize.quantized(symbol, parameters, calibration.ranges, calibration.corrections)
    elif context.device_type == "cpu":
        symbol = symbol.get_backend_symbol("MKLDNN")
    computed = block(symbol, parameters, context)
    return Network(layout, lambda laid: computed(mx.nd.array(laid, ctx=context)))
