"""8-bit integers for a convolution's inputs, weights and outputs (MXNet's quantization on oneDNN; CPUs only).

Every quantized layer needs the range its values may take, and the mean of its inputs: rounding the weights moves a
layer's outputs by their errors times that mean, and the bias takes this back (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.2). Both are measured once per backbone, on
images that are made here: so they, and with them the features, never depend on the user's data.
"""

import json
import math
from typing import NamedTuple

import numpy as np

from stages.backend.mx import mx

quantization = mx.contrib.quantization

# Images whose layers' values set the ranges. On Lite0, 1 and 2, 16 or 32 of these, the photographs of the comparison
# themselves, and thresholds of least squared error all gave features equally close to float32 (cosine, within 0.002).
IMAGES = 16


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


class Layer(NamedTuple):
    """A quantized convolution: the names of what it reads."""

    input: str
    weight: str
    bias: str


def measured(symbol, params):
    """What to measure inside ``symbol`` (from ``fuse``): (outputs whose ranges, [Layer] of whose inputs the means)."""
    quantized, outputs = _quantize(symbol, params)
    integer = {n["name"] for n in json.loads(quantized.tojson())["nodes"] if n["op"] == "_sg_mkldnn_conv"}
    nodes = json.loads(symbol.tojson())["nodes"]
    layers = []
    for node in nodes:
        if f"quantized_{node['name']}" in integer:
            source, weight, bias = (nodes[index] for index, *_ in node["inputs"][:3])
            name = source["name"] if source["op"] == "null" else f"{source['name']}_output"
            layers.append(Layer(name, weight["name"], bias["name"]))
    return sorted(outputs), layers


def correction(weight, means):
    """What to add to the bias of a convolution so that rounding its weights leaves the mean of its outputs.

    weight: float (filters, channels of a group, height, width). means: of its inputs, float (channels).
    Returns float (filters,). Padding is taken for average input.
    """
    lost = (weight - _rounded(weight)).sum(axis=(2, 3))
    groups = len(means) // lost.shape[1]
    return (lost.reshape(groups, -1, lost.shape[1]) @ means.reshape(groups, -1, 1)).ravel()


def _rounded(weight):
    # 127.5 for the largest of a filter, and this one cut to 127, is how MXNet does it.
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    scale = 127.5 / np.where(largest == 0, 1, largest)
    return (weight * scale).round().clip(-128, 127) / scale


def quantize(symbol, params, calibration):
    """Makes the layers of ``symbol`` (from ``fuse``) compute in integers; returns (symbol, params).

    params: NDArrays by name.
    calibration: {"ranges": {output's name: [lowest, highest]}, "corrections": {bias's name: what to add}}.
    Raises ValueError if the calibration lacks an output: MXNet would then take the range of each batch, and a
    feature would depend on its neighbours.
    """
    corrections = {name: mx.nd.array(values) for name, values in calibration["corrections"].items()}
    params = {**params, **{name: params[name] + values for name, values in corrections.items()}}
    quantized, outputs = _quantize(symbol, params)
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


def _quantize(symbol, params):
    quantized, _, _, collector = quantization.quantize_graph(
        symbol, params, {}, calib_mode="naive", quantized_dtype="auto", quantize_mode="smart",
        quantize_granularity="channel-wise",
    )  # fmt: skip
    return quantized, set(collector.include_layer)
