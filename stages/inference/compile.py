"""Compiles a frozen body for inference: a faster graph for the same features.

The graph is simplified once (see ``graph``), and oneDNN then fuses convolution, activation and sum.

A feature depends on its image alone, to the last bit: not on the size of the batch, nor on the place in it, nor
on the neighbours. oneDNN computes every image of a convolution's batch by itself, so convolutions give
that away for free. A dense layer is one matrix product whose blocking changes with its number of rows;
it is computed as a convolution too (see ``graph``). One OpenMP thread is assumed throughout.
"""

import warnings

import numpy as np

from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.inference import pixels, quantize
from stages.inference import rewrite as graph

# Part of the fingerprint of every stored feature: raise it when a change here or in ``graph`` changes their bytes.
VERSION = 3

# What a device can compute in. On both the features leave as float32.
PRECISIONS = {"cpu": ("float32", "bfloat16", "int8"), "gpu": ("float32", "float16")}

# Images at a time whose values are measured for int8: VGG16 takes 3.4 GB with 4, 5 GB with 16.
CALIBRATION_BATCH = 4

# oneDNN's fast kernels take channels by 16; with others in between, maps are forever laid out anew.
CHANNELS = 16


def environment(backbone, precision):
    """Variables to be set before MXNet is loaded, in every process that computes features of ``backbone``."""
    variables = {
        "OMP_NUM_THREADS": "1",
        # glibc: memory for a batch is kept for the next one. Given back, it comes anew page by page, which takes 4 %
        # of the time from JPEG files to Lite0's features. 32 MB is the most that is allowed; the first alone changes
        # nothing. Huge pages, where the system gives them: another 2 %.
        "GLIBC_TUNABLES": (
            f"glibc.malloc.mmap_threshold={32 << 20}:glibc.malloc.trim_threshold={256 << 20}:glibc.malloc.hugetlb=1"
        ),
        # For GPUs: algorithms that give the same bits every time, chosen without trying out which is fastest, and no
        # rounding of float32 to TF32.
        "MXNET_ENFORCE_DETERMINISM": "1",
        "MXNET_CUDNN_AUTOTUNE_DEFAULT": "0",
        "NVIDIA_TF32_OVERRIDE": "0",
    }
    if backbone.depthwise and precision == "float32":
        # oneDNN 2.4 would mix kernels that want channels last with kernels that want them in blocks. Up to this
        # instruction set, which is AVX-512 all the same, it has the latter alone: a sixth faster on Lite0.
        variables["DNNL_MAX_CPU_ISA"] = "AVX512_MIC"
    return variables


def compile(body, shape, precision="float32", context=None, calibration=None):
    """Compiles ``body`` for batches of exactly ``shape``.

    body: ``zoo.body`` with float32 parameters.
    shape: (n, 3, size, size).
    precision: one of ``PRECISIONS`` of the device.
    context: the device, by default the CPU.
    calibration: for int8, what :func:`calibrate` returned for the same body.

    Returns a function from a float32 array of ``shape`` to a float32 NDArray (n, dim) on ``context``.
    Raises InputError if the device cannot compute in ``precision``.
    """
    context = context or mx.cpu()
    known = PRECISIONS[context.device_type]
    if precision not in known:
        raise InputError(f"precision {precision} does not run on a {context.device_type}, only {' and '.join(known)}")
    symbol, params, lay = _simplified(body, shape, precision, context)
    if precision == "int8":
        if calibration is None:
            raise ValueError("int8 needs the calibration of the body")
        symbol, params = quantize.quantize(quantize.fuse(symbol), params, calibration)
    elif context.device_type == "cpu":
        symbol = symbol.get_backend_symbol("MKLDNN")
    run = _block(symbol, params, context)
    return lambda batch: run(mx.nd.array(lay(batch), ctx=context))


def _simplified(body, shape, precision, context):
    """The graph of ``body`` as ``precision`` wants it: (symbol, NDArrays by name, how it wants its batches to lie)."""
    symbol, params = trace(body)
    dtype = {"bfloat16": graph.BFLOAT16, "float16": np.float16}.get(precision, np.float32)
    rotated = graph.gains_by_rotation(symbol, shape)
    # Integer kernels take any number of channels.
    multiple = CHANNELS if context.device_type == "cpu" and precision != "int8" else 1
    # The fast bfloat16 kernels take channels by twos.
    channels = 4 if precision == "bfloat16" else 3
    symbol, params = graph.rewrite(symbol, params, shape, dtype, rotated, multiple, channels)
    return symbol, params, _layout(shape, rotated, channels)


def _layout(shape, rotated, channels):
    """A function that lays batches of ``shape`` out as the graph wants them, in the same memory every time.

    rotated: by 180°. channels: how many, those behind the image's own being 0.
    """
    if not rotated and channels == shape[1]:
        return np.asarray
    laid = np.zeros((shape[0], channels, *shape[2:]), np.float32)

    def lay(batch):
        laid[:, : shape[1]] = batch[:, :, ::-1, ::-1] if rotated else batch
        return laid

    return lay


def calibrate(body, backbone):
    """Measures what int8 needs to know of the values inside ``body``: the ``calibration`` for :func:`compile`.

    Depends on the body's parameters and the ``backbone``'s preprocessing, on nothing else. Returns plain data for JSON.
    """
    inputs = pixels.normalise(quantize.images(backbone.size), backbone)
    shape = (CALIBRATION_BATCH, *inputs.shape[1:])
    symbol, params, lay = _simplified(body, shape, "int8", mx.cpu())
    symbol = quantize.fuse(symbol)
    outputs, layers = quantize.measured(symbol, params)

    def value(name):
        # MXNet does not return a variable such as "data" itself.
        return mx.sym.identity(symbol.get_internals()[name])

    asked = [op(value(name), axis=None) for name in outputs for op in (mx.sym.min, mx.sym.max)]
    asked += [mx.sym.mean(value(layer.input), axis=(0, 2, 3)) for layer in layers]
    run = _block(mx.sym.Group(asked), params, mx.cpu())
    answers = [[x.asnumpy() for x in run(mx.nd.array(lay(batch)))] for batch in inputs.reshape(-1, *shape)]
    # What was asked, in that order, each with an answer for every batch.
    found = (np.array(each, dtype=np.float64) for each in zip(*answers))
    ranges = {name: [next(found).min(), next(found).max()] for name in outputs}
    corrections = {}
    for layer in layers:
        correction = quantize.correction(params[layer.weight].asnumpy(), next(found).mean(axis=0))
        corrections[layer.bias] = [float(f"{x:.4g}") for x in correction]
    return {"ranges": ranges, "corrections": corrections}


def trace(body):
    """The body as a graph with the input "data", and its parameters as numpy arrays by name."""
    return body(mx.sym.var("data")), {name: p.data().asnumpy() for name, p in body.collect_params().items()}


def _block(symbol, params, context):
    with warnings.catch_warnings():
        # Gluon warns that it cannot know the type of "data".
        warnings.simplefilter("ignore")
        block = mx.gluon.SymbolBlock(symbol, mx.sym.var("data"))
    used = block.collect_params()
    used.load_dict({name: params[name] for name in used}, ctx=context, cast_dtype=True, dtype_source="saved")
    block.hybridize(static_alloc=True, static_shape=True)
    return block
