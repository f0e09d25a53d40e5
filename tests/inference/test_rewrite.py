"""The simplified graph: the same function of its input, with fewer operators."""

import json

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.inference.graph import trace
from stages.inference.rewrite import BFLOAT16, rewrite
from tests.inference.bodies import error, images, padding, random_body

# Of the largest number: rounding in one layer.
LAYER_ERROR = 1e-6


def test_float16_computes_in_float16():
    """Only the graph: float16 needs a GPU."""
    body = random_body("vgg11_bn", 64)
    symbol, params = rewrite(*trace(body), (5, 3, 64, 64), np.float16)
    arguments, outputs, _ = symbol.infer_type(data=np.float32)
    assert {np.dtype(t) for t in arguments[1:]} == {np.dtype(np.float16)}
    assert {p.dtype for p in params.values()} == {np.float16}
    assert outputs == [np.float32]


def rewritten(layers, shape, rotated=False, multiple=1):
    """Rewrites a sequence of Gluon layers; returns their names in the new graph, old and new output for one input."""
    operators, expected, computed, _ = rewritten_with_params(layers, shape, rotated, multiple)
    return operators, expected, computed


def rewritten_with_params(layers, shape, rotated=False, multiple=1):
    net = mx.gluon.nn.HybridSequential()
    net.add(*layers)
    net.initialize(mx.init.Normal(0.5))
    x = mx.nd.array(np.random.default_rng(3).standard_normal(shape))
    expected = net(x).asnumpy()
    for layer in layers:
        if isinstance(layer, mx.gluon.nn.BatchNorm) and layer._kwargs["fix_gamma"]:
            # MXNet ignores this gamma, and has just overwritten it with ones.
            layer.gamma.set_data(mx.nd.full(layer.gamma.shape, 3))
    symbol, params = rewrite(*trace(net), shape, rotated=rotated, multiple=multiple)
    operators = [node["op"] for node in json.loads(symbol.tojson())["nodes"] if node["op"] != "null"]
    auxiliary = {name: params[name] for name in symbol.list_auxiliary_states()}
    data = mx.nd.flip(x, axis=(2, 3)) if rotated else x
    (computed,) = symbol.bind(mx.cpu(), {**params, "data": data}, aux_states=auxiliary).forward()
    return operators, expected, computed.asnumpy(), params


def norm(scale=True):
    """A batch norm that has seen data."""
    return mx.gluon.nn.BatchNorm(
        scale=scale,
        in_channels=6,
        gamma_initializer=mx.init.Uniform(2),
        beta_initializer=mx.init.Uniform(2),
        running_mean_initializer=mx.init.Uniform(2),
        running_variance_initializer=mx.init.Constant(0.3),
    )


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_batch_norm_goes_into_the_layer_before_it(scale, bias):
    convolution = mx.gluon.nn.Conv2D(6, 3, groups=2, use_bias=bias, bias_initializer="ones")
    operators, expected, computed = rewritten([convolution, norm(scale=scale)], (2, 4, 7, 7))
    assert operators == ["Convolution"]
    assert error(computed, expected) <= LAYER_ERROR
    dense = mx.gluon.nn.Dense(6, use_bias=bias, bias_initializer="ones")
    operators, expected, computed = rewritten([dense, norm(scale=scale)], (2, 4, 3, 3))
    assert "BatchNorm" not in operators
    assert error(computed, expected) <= LAYER_ERROR


def test_a_batch_norm_elsewhere_stays():
    operators, expected, computed = rewritten([norm(), mx.gluon.nn.Conv2D(5, 3, padding=1)], (2, 6, 7, 7))
    assert operators == ["BatchNorm", "Convolution"]
    assert error(computed, expected) <= LAYER_ERROR


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("sides", [(1, 1, 2, 2), (0, 1, 0, 1), (1, 2, 2, 1), (2, 0, 0, 3)])
@pytest.mark.parametrize("side", [8, 9])
def test_zero_padding_goes_into_the_convolution(stride, sides, side):
    convolution = mx.gluon.nn.Conv2D(4, 3, strides=stride, padding=(1, 0))
    operators, expected, computed = rewritten([padding(*sides), convolution], (2, 3, side, side))
    assert operators == ["Convolution"]
    assert error(computed, expected) <= LAYER_ERROR


def test_other_padding_stays():
    for layers in (
        [padding(1, 1, 1, 1, value=1), mx.gluon.nn.Conv2D(4, 3)],
        [padding(1, 1, 1, 1), mx.gluon.nn.MaxPool2D()],
    ):
        operators, expected, computed = rewritten(layers, (2, 3, 8, 8))
        assert operators[0] == "Pad"
        assert error(computed, expected) <= LAYER_ERROR


@pytest.mark.parametrize("rows", [1, 5, 16, 17, 32])
def test_a_dense_layer_takes_any_number_of_rows(rows):
    dense = mx.gluon.nn.Dense(7, activation="relu", bias_initializer="ones")
    operators, expected, computed = rewritten([dense, mx.gluon.nn.Dropout(0.5)], (rows, 5, 2, 3))
    assert "FullyConnected" not in operators and "Dropout" not in operators
    assert computed.shape == (rows, 7)
    assert error(computed, expected) <= LAYER_ERROR


def test_names_do_not_depend_on_networks_built_before():
    """int8's ranges are stored by name."""
    first, second = (rewrite(*trace(random_body("vgg11_bn", 64)), (3, 3, 64, 64)) for _ in range(2))
    assert first[0].tojson() == second[0].tojson()
    assert list(first[1]) == list(second[1])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (0, 1, 0, 1), (1, 2, 2, 1), (2, 0, 0, 3)])
@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (9, 3), (8, 1), (9, 2)])
def test_a_rotated_image_gives_the_rotated_map(stride, sides, side, kernel):
    convolution = mx.gluon.nn.Conv2D(4, kernel, strides=stride, padding=(kernel // 2, 0))
    _, expected, computed = rewritten([padding(*sides), convolution], (2, 3, side, side), rotated=True)
    assert error(computed[:, :, ::-1, ::-1], expected) <= LAYER_ERROR


def test_a_rotated_network_needs_no_larger_kernels():
    kernels = {}
    for rotated in (False, True):
        layers = [
            *(padding(0, 1, 0, 1), mx.gluon.nn.Conv2D(4, 3, strides=2)),
            *(padding(1, 2, 1, 2), mx.gluon.nn.Conv2D(4, 5, strides=2, groups=4)),
            mx.gluon.nn.GlobalAvgPool2D(),
        ]
        _, expected, computed, params = rewritten_with_params(layers, (2, 3, 12, 12), rotated)
        assert error(computed, expected) <= LAYER_ERROR
        kernels[rotated] = [array.shape[2:] for array in params.values() if array.ndim == 4]
    assert kernels == {False: [(4, 4), (6, 6)], True: [(3, 3), (5, 5)]}


def test_channels_are_filled_up_and_the_rest_is_cut_off():
    nn = mx.gluon.nn
    layers = [
        *(nn.Conv2D(6, 3, padding=1), norm(), nn.Activation("relu")),
        nn.Conv2D(6, 3, groups=6),
        nn.Conv2D(5, 1, bias_initializer="ones"),
        nn.Activation("sigmoid"),
        nn.Conv2D(10, 1, groups=5),
    ]
    operators, expected, computed, params = rewritten_with_params(layers, (2, 3, 7, 7), multiple=8)
    assert operators == [
        "Convolution",
        "Activation",
        "Convolution",
        "Convolution",
        "Activation",
        "slice_axis",
        "Convolution",
    ]
    assert computed.shape == expected.shape
    assert error(computed, expected) <= LAYER_ERROR
    filters = [array.shape[:2] for array in params.values() if array.ndim == 4]
    assert filters == [(8, 3), (8, 1), (8, 8), (10, 1)]


def test_an_image_may_come_with_more_channels():
    body = random_body("vgg11_bn", 64)
    batch = images(2, 64)
    symbol, params = rewrite(*trace(body), batch.shape, channels=4)
    assert params["convolution0_weight"].shape[1] == 4
    filled = np.concatenate([batch, np.full((2, 1, 64, 64), 7, np.float32)], axis=1)
    (computed,) = symbol.bind(mx.cpu(), {**params, "data": mx.nd.array(filled)}).forward()
    assert error(computed.asnumpy(), body(mx.nd.array(batch)).asnumpy()) <= 10 * LAYER_ERROR


def test_an_operator_that_mxnet_keeps_to_itself_is_refused():
    symbol = mx.sym.var("data") + 1
    with pytest.raises(ValueError, match=r"^the operator _plus_scalar \(.*\) cannot be compiled$"):
        rewrite(symbol, {}, (1, 3, 8, 8))


def test_a_layer_norm_over_channels_is_computed_over_the_last_axis():
    norm = mx.gluon.nn.LayerNorm(
        axis=1, epsilon=1e-6, in_channels=5, gamma_initializer=mx.init.Uniform(2), beta_initializer=mx.init.Uniform(2)
    )
    operators, expected, computed = rewritten([mx.gluon.nn.Conv2D(5, 1), norm], (2, 3, 6, 7), multiple=8)
    assert operators[-3:] == ["transpose", "LayerNorm", "transpose"]
    assert error(computed, expected) <= LAYER_ERROR


@pytest.mark.parametrize(
    ("shape", "kernels"),
    [((112, 96), ["(16, 16)", "()"]), ((16, 16), ["()"]), ((17, 17), ["()"]), ((34, 30), ["(2, 15)", "()"])],
)
def test_a_mean_over_large_maps_is_taken_in_parts(shape, kernels):
    x = mx.sym.var("data")
    symbol, _ = rewrite(mx.sym.Pooling(x, global_pool=True, pool_type="avg"), {}, (1, 2, *shape))
    found = [node["attrs"].get("kernel", "()") for node in json.loads(symbol.tojson())["nodes"] if node["op"] != "null"]
    assert found == kernels
    values = np.random.default_rng(1).uniform(1, 2, (1, 2, *shape)).astype(np.float32)
    (mean,) = symbol.bind(mx.cpu(), {"data": mx.nd.array(values)}).forward()
    assert error(mean.asnumpy(), values.astype(float).mean((2, 3), keepdims=True)) <= LAYER_ERROR


def test_what_is_multiplied_with_a_function_of_itself_is_laid_plainly_once():
    layers = [mx.gluon.nn.Conv2D(5, 1), mx.gluon.nn.HybridLambda(lambda F, x: x * F.Activation(x, act_type="sigmoid"))]
    operators, expected, computed = rewritten(layers, (2, 3, 6, 7), multiple=8)
    assert operators == ["Convolution", "Reshape", "Activation", "elemwise_mul", "slice_axis"]
    assert error(computed, expected) <= LAYER_ERROR


def test_products_are_rounded_to_bfloat16_rather_than_cut():
    layers = [mx.gluon.nn.Conv2D(16, 1), mx.gluon.nn.HybridLambda(lambda F, x: F.elemwise_mul(x, x))]
    net = mx.gluon.nn.HybridSequential()
    net.add(*layers)
    net.initialize()
    net(mx.nd.zeros((2, 3, 6, 7)))
    symbol, _ = rewrite(*trace(net), (2, 3, 6, 7), BFLOAT16)
    nodes = json.loads(symbol.tojson(remove_amp_cast=False))["nodes"]
    (product,) = (node for node in nodes if node["op"] == "elemwise_mul")
    assert {nodes[source]["attrs"]["dtype"] for source, *_ in product["inputs"]} == {"float32"}
