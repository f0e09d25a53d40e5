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


@pytest.mark.parametrize("side", [3, 5])
def test_the_errors_of_a_depthwise_filter_cancel_out_where_a_map_is_even(side):
    weight = np.random.default_rng(0).standard_normal((200, 1, side, side)).astype(np.float32)
    weight[7] = 0
    settled = quantize.settled(weight)

    def off(made):
        return np.abs((quantize.rounded(made) - weight).sum((1, 2, 3))).mean()

    assert off(settled) < 0.6 * off(weight)
    # The largest of a filter sets its scale, and is the only one that is rounded still.
    assert np.array_equal(np.abs(settled).max((1, 2, 3)), np.abs(weight).max((1, 2, 3)))
    moved = np.abs(settled) < np.abs(weight).max((1, 2, 3), keepdims=True)
    assert moved.sum() == 199 * (side * side - 1)
    assert np.allclose(quantize.rounded(settled)[moved], settled[moved], atol=1e-6)
    # None goes far.
    steps = np.abs(weight).max((1, 2, 3), keepdims=True) / 127.5
    assert (np.abs(settled - weight) <= 2 * steps).all()


def test_other_weights_stay_as_they_are():
    weight = np.random.default_rng(0).standard_normal((6, 2, 3, 3)).astype(np.float32)
    assert quantize.settled(weight) is weight


def test_a_depthwise_layer_is_exact_for_even_maps(monkeypatch):
    """In MXNet's own integers, and maps whose values are not the mean that the correction was made for."""
    random = np.random.default_rng(0)
    symbol, parameters = convolution(6, random)
    outputs, _ = quantize.measured(symbol, parameters)
    inputs = np.broadcast_to(np.linspace(0, 1, 6, dtype=np.float32).reshape(6, 1, 1, 1), (6, 6, 8, 8))
    ranges = dict.fromkeys(outputs, (0.0, 1.0)) | {outputs[-1]: (-8.0, 8.0)}

    def computed(symbol, parameters):
        used = {**parameters, "data": mx.nd.array(inputs)}
        return symbol.bind(mx.cpu(), {name: used[name] for name in symbol.list_arguments()}).forward()[0].asnumpy()

    exact = computed(symbol, parameters)

    def error():
        correction = quantize.correction(parameters["weight"].asnumpy(), np.full(6, 0.5))
        integer = quantize.quantized(symbol, parameters, ranges, {"bias": correction.tolist()})
        return np.square(computed(*integer) - exact).mean()

    least = error()
    monkeypatch.setattr(quantize, "settled", lambda weight: weight)
    assert least < error()
