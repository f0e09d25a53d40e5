"""Compiles a frozen body for inference: a faster graph for the same features.

The graph is simplified once (see ``rewrite``), and oneDNN then fuses convolution, activation and sum.

A feature depends on its image alone, to the last bit: not on the size of the batch, nor on the place in it, nor
on the neighbours. oneDNN computes every image of a convolution's batch by itself, so convolutions give
that away for free. A dense layer is one matrix product whose blocking changes with its number of rows;
it is computed as a convolution too (see ``rewrite``). One OpenMP thread is assumed throughout.
"""

from collections.abc import Callable
from typing import Any, Optional

from stages.backend.mx import mx
from stages.inference import quantize
from stages.inference.calibrate import Calibration
from stages.inference.environment import check
from stages.inference.graph import Shape
from stages.inference.simplify import Batch, block, simplified

# Part of the fingerprint of every stored feature: raise it when a change in this package changes their bytes.
VERSION = 3


def compiled(
    body: Any,
    shape: Shape,
    precision: str = "float32",
    context: Any = None,
    calibration: Optional[Calibration] = None,
) -> Callable[[Batch], Any]:
    """Compiles ``body`` for batches of exactly ``shape``.

    body: ``zoo.body`` with float32 parameters.
    shape: (n, 3, size, size).
    precision: one of ``environment.PRECISIONS`` of the device.
    context: the device, by default the CPU.
    calibration: for int8, what ``calibrate.measure`` returned for the same body.

    Returns a function from a float32 array of ``shape`` to a float32 NDArray (n, dim) on ``context``.
    Raises InputError if the device cannot compute in ``precision``.
    """
    context = context or mx.cpu()
    check(precision, context.device_type)
    symbol, parameters, lay = simplified(body, shape, precision, context.device_type)
    if precision == "int8":
        if calibration is None:
            raise ValueError("int8 needs the calibration of the body")
        symbol = quantize.fuse(symbol)
        symbol, parameters = quantize.quantized(symbol, parameters, calibration.ranges, calibration.corrections)
    elif context.device_type == "cpu":
        symbol = symbol.get_backend_symbol("MKLDNN")
    run = block(symbol, parameters, context)
    return lambda batch: run(mx.nd.array(lay(batch), ctx=context))
