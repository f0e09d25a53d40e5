"""8-bit integers for a convolution's inputs, weights and outputs (MXNet's quantization on oneDNN; CPUs only).

Every quantized layer needs the range its values may take. It is measured once per backbone, on images that are
made here: so the ranges, and with them the features, never depend on the user's data.
"""

import json
import math

import numpy as np

from stages.mx import mx

quantization = mx.contrib.quantization

# Images whose layers' values set the ranges. On Lite0, 1 and 2, 16 or 32 of these, the photographs of the comparison
# themselves, and thresholds of least squared error all gave features equally close to float32 (cosine, within 0.002).
IMAGES = 16

# The first layers stay in float32 as long as they make up no more than this share of the multiplications. In Lite0
# these are two layers: features of digits have a cosine of 0.995 to float32 (0.982 without), for 7 % of the time.
FLOAT_SHARE = 0.05


def images(size):
    """Makes the calibration images, always the same: uint8 (IMAGES, size, size, 3).

    What matters of a photograph here is its spectrum (amplitude falls with frequency), its colours (brightness
    varies more than hue), its contrast, and things with sharp edges that hide each other.
    """
    return np.stack([_image(size, np.random.RandomState(seed)) for seed in range(IMAGES)])


def _image(size, random):
    # RandomState: numpy promises the same numbers from it in every version.
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = math.inf
    spectrum = np.fft.rfft2(random.standard_normal((3, size, size))) / frequency ** random.uniform(0.8, 1.6)
    noise = np.fft.irfft2(spectrum, s=(size, size))
    noise /= noise.std((1, 2), keepdims=True)
    # From brightness, red-blue and green-magenta to red, green and blue.
    mix = np.array([[0.6, 0.25, 0.06], [0.6, 0, -0.13], [0.6, -0.25, 0.06]])
    image = np.tensordot(mix, noise, 1) * random.uniform(0.1, 0.4) + random.uniform(0.25, 0.75)
    y, x = np.mgrid[:size, :size] / size
    for _ in range(8):
        up, left, radius = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.03, 0.4)
        if random.randint(2):
            inside = np.hypot(y - up, x - left) < radius
        else:
            inside = np.maximum(abs(y - up), abs(x - left) * random.uniform(0.2, 5)) < radius
        painted = image * random.uniform(0, 1) + random.uniform(-0.3, 1, (3, 1, 1))
        image = np.where(inside, painted, image)
    return (image.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def fuse(symbol):
    """Joins convolutions with what follows them, in the way that ``quantize`` needs."""
    return symbol.get_backend_symbol("MKLDNN_QUANTIZE")


def float_layers(symbol, params, shape):
    """Names of the fused convolutions that stay in float32 (see ``FLOAT_SHARE``); always the first."""
    internals = symbol.get_internals()
    shapes = dict(zip(internals.list_outputs(), internals.infer_shape(data=shape)[1]))
    nodes = json.loads(symbol.tojson())["nodes"]
    costs = {}
    for node in nodes:
        if node["op"] == "_sg_mkldnn_conv":
            weight = params[nodes[node["inputs"][1][0]]["name"]]
            images, _, height, width = shapes[f"{node['name']}_output"]
            costs[node["name"]] = images * height * width * weight.size
    share = np.cumsum(list(costs.values())) / sum(costs.values())
    return [name for i, name in enumerate(costs) if i == 0 or share[i] <= FLOAT_SHARE]


def ranged_outputs(symbol, params, excluded):
    """Names of the outputs inside ``symbol`` (from ``fuse``) whose ranges ``quantize`` needs."""
    return sorted(_quantize(symbol, params, excluded)[1])


def quantize(symbol, params, calibration):
    """Makes the layers of ``symbol`` (from ``fuse``) compute in integers; returns (symbol, params).

    params: NDArrays by name.
    calibration: {"float32": [names of layers that stay], "ranges": {output's name: [lowest, highest]}}.
    Raises ValueError if the calibration lacks an output: MXNet would then take the range of each batch, and a
    feature would depend on its neighbours.
    """
    quantized, outputs = _quantize(symbol, params, calibration["float32"])
    missing = sorted(outputs - set(calibration["ranges"]))
    if missing:
        raise ValueError(f"the calibration belongs to another network: it has no range for {', '.join(missing)}")
    table = _Table({name: calibration["ranges"][name] for name in outputs})
    quantized, arguments, _ = quantization.calib_graph(quantized, params, {}, table, "customize", logger=None)
    return fuse(quantized), {**params, **arguments}


class _Table:
    # What calib_graph reads.
    def __init__(self, ranges):
        self.min_max_dict = ranges


def _quantize(symbol, params, excluded):
    quantized, _, _, collector = quantization.quantize_graph(
        symbol, params, {}, excluded_sym_names=excluded, calib_mode="naive", quantized_dtype="auto",
        quantize_mode="smart", quantize_granularity="channel-wise",
    )  # fmt: skip
    return quantized, set(collector.include_layer)
