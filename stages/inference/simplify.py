"""From a frozen body to the graph that is compiled: simplified for one batch shape and one precision."""

import warnings
from typing import Any

import numpy as np

from stages.backend import cpu
from stages.backend.mx import mx
from stages.inference import graph, idle
from stages.inference.graph import Shape, Symbol
from stages.inference.rewrite import BFLOAT16, FLOAT32, NDArrays, rewrite
from stages.preprocessing.layout import Layout

# oneDNN's fast kernels with AVX-512 take channels by 16; with others in between, maps are forever laid out anew.
# Without AVX-512 what is filled up only costs (bench.settings).
CHANNELS = 16

_DTYPES = {"bfloat16": BFLOAT16, "float16": np.dtype(np.float16)}


def simplified(body: Any, shape: Shape, precision: str, kind: str) -> tuple[Symbol, NDArrays, Layout]:
    """The graph of the Gluon ``body`` for batches of ``shape`` (n, 3, size, size) in ``precision``.

    kind: of the device, "cpu" or "gpu". Returns the symbol, NDArrays on the CPU by name, and how the symbol's "data" is
    laid out.
    """
    symbol, arrays = graph.trace(body)
    rotated = graph.gains_by_rotation(symbol, shape)
    # Integer kernels take any number of channels.
    filled = kind == "cpu" and precision != "int8" and "AVX512_COMMON" in cpu.instruction_sets()
    multiple = CHANNELS if filled else 1
    # The fast bfloat16 kernels take channels by twos.
    channels = 4 if precision == "bfloat16" else 3
    dtype = _DTYPES.get(precision, FLOAT32)
    symbol, parameters = rewrite(symbol, arrays, shape, dtype, rotated, multiple, channels)
    if precision == "int8":
        parameters = idle.lent(symbol, parameters, shape)
    return symbol, parameters, Layout(shape[0], shape[2], rotated, channels)


def block(symbol: Symbol, parameters: NDArrays, context: Any) -> Any:
    """A hybridized Gluon block on ``context`` that computes ``symbol`` from its "data", for batches of one shape."""
    with warnings.catch_warnings():
        # Gluon warns that it cannot know the type of "data".
        warnings.simplefilter("ignore")
        made = mx.gluon.SymbolBlock(symbol, mx.sym.var("data"))
    used = made.collect_params()
    used.load_dict({name: parameters[name] for name in used}, ctx=context, cast_dtype=True, dtype_source="saved")
    made.hybridize(static_alloc=True, static_shape=True)
    return made
