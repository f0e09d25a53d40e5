"""Convolutions in integers: what is measured for them, and that rounding their weights leaves the mean."""

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.inference import quantize


def convolution(groups, random):
    """(symbol, NDArrays): one fused convolution of 6 channels."""
    inputs = map(mx.sym.var, ("data", "weight", "bias"))
    symbol = quantize.fuse(mx.sym.Convolution(*inputs, kernel=(3, 3), num_filter=6, num_group=groups))
    weight = random.standard_normal((6, 6 // groups, 3, 3)).astype(np.float32)
    return symbol, {"weight": mx.nd.array(weight), "bias": mx.nd.zeros(6)}


@pytest.mark.parametrize("groups", [1, 6])
def test_a_corrected_layer_keeps_the_mean_of_its_outputs(groups):
    """In MXNet's own integers: one convolution over inputs whose mean is far from 0."""
    random = np.random.default_rng(0)
    inputs = (random.uniform(0, 1, (4, 6, 64, 64)) * np.arange(1, 7).reshape(6, 1, 1)).astype(np.float32)
    symbol, parameters = convolution(groups, random)
    outputs, layers = quantize.measured(symbol, parameters)
    assert layers == [quantize.Layer("data", "weight", "bias")]

    def computed(symbol, parameters):
        used = {**parameters, "data": mx.nd.array(inputs)}
        return symbol.bind(mx.cpu(), {name: used[name] for name in symbol.list_arguments()}).forward()[0].asnumpy()

    exact = computed(symbol, parameters)
    extremes = dict(zip(outputs, (inputs, exact)))
    ranges = {name: (float(values.min()), float(values.max())) for name, values in extremes.items()}

    def error(correction):
        integer = quantize.quantized(symbol, parameters, ranges, {"bias": correction.tolist()})
        difference = computed(*integer) - exact
        return np.abs(difference.mean((0, 2, 3))).max()

    weight = parameters["weight"].asnumpy()
    assert error(quantize.correction(weight, inputs.mean((0, 2, 3)))) < 0.2 * error(np.zeros(6))


def test_an_output_without_a_range_is_refused():
    symbol, parameters = convolution(1, np.random.default_rng(0))
    outputs, _ = quantize.measured(symbol, parameters)
    ranges = dict.fromkeys(outputs, (-1.0, 1.0))
    assert len(outputs) == 2
    quantize.quantized(symbol, parameters, ranges, {})
    for gone in outputs:
        others = {name: its for name, its in ranges.items() if name != gone}
        with pytest.raises(ValueError, match=f"another network: it has no range for {gone}$"):
            quantize.quantized(symbol, parameters, others, {})
