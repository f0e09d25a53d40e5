"""The compiled body: the same function as the network, and the same bytes whatever else is in the batch.

`python -m tests.test_inference PRECISION` prints the batch sizes that change features (none), by network.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from stages import inference, networks
from stages.backbones import BACKBONES
from stages.errors import InputError
from stages.mx import mx

# One of each kind, with the side of the images: smaller where the real one takes long and the layers allow it.
NETWORKS = {
    "efficientnet_lite0": 224, "mobilenet0.25": 224, "mobilenetv2_0.25": 224, "squeezenet1.1": 224, "alexnet": 224,
    "resnet18_v1": 96, "resnet18_v2": 96, "densenet121": 224, "inceptionv3": 299, "vgg11_bn": 64,
}  # fmt: skip

# The large ones were tried once; with these the whole file takes half a minute.
IN_BATCHES = {
    "float32": ("efficientnet_lite0", "mobilenetv2_0.25", "squeezenet1.1", "resnet18_v1", "vgg11_bn"),
    "bfloat16": ("mobilenet0.25", "resnet18_v2", "vgg11_bn"),
    "int8": ("mobilenet0.25", "resnet18_v2", "vgg11_bn"),
}
BATCH_SIZES = (1, 2, 3, 5, 8, 16)

# Of the largest number. Rounding alone: 1e-6 in one layer, 1e-5 through the random layers of a whole network.
LAYER_ERROR = 1e-6
NETWORK_ERROR = 4e-5


def random_body(name, size):
    """The frozen body of ``name`` with random weights, whose batch norms fit them: features differ between images."""
    mx.random.seed(1)
    np.random.seed(1)
    network = networks.build(name)
    network.initialize(mx.init.Xavier(magnitude=4))
    body = networks.Body(network, "auto")
    body(mx.nd.zeros((1, 3, size, size)))
    random = np.random.default_rng(1)
    for key, parameter in body.collect_params().items():
        if key.endswith("gamma"):
            parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
        elif key.endswith(("bias", "beta")):
            parameter.set_data(mx.nd.array(random.normal(0, 0.2, parameter.shape)))
    hooks = []
    body.apply(lambda layer: hooks.append(layer.register_forward_pre_hook(_fit_batch_norm)))
    body(mx.nd.array(images(4, size)))
    for hook in hooks:
        hook.detach()
    return body


def _fit_batch_norm(layer, inputs):
    if isinstance(layer, mx.gluon.nn.BatchNorm):
        layer.running_mean.set_data(inputs[0].mean(axis=(0, 2, 3)))
        layer.running_var.set_data(mx.nd.array(inputs[0].asnumpy().var((0, 2, 3))))


def backbone(name):
    return replace(BACKBONES[name], size=NETWORKS[name])


def images(count, size):
    """Noise of another strength and colour in each: float32 (count, 3, size, size)."""
    random = np.random.default_rng(2)
    noise = random.standard_normal((count, 3, size, size))
    return (noise * random.uniform(0.2, 1, (count, 3, 1, 1)) + random.normal(size=(count, 3, 1, 1))).astype(np.float32)


def error(computed, expected):
    return np.abs(computed - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_the_network(name):
    body = random_body(name, NETWORKS[name])
    batch = mx.nd.array(images(3, NETWORKS[name]))
    compiled = inference.compile(body, batch.shape)(batch).asnumpy()
    assert compiled.dtype == np.float32
    assert error(compiled, body(batch).asnumpy()) <= NETWORK_ERROR
    # The features say something about the image, else all this would show nothing.
    assert error(compiled[0], compiled[1]) > 50 * NETWORK_ERROR


def differing_batch_sizes(name, precision):
    """The batch sizes with which any feature has other bytes than among 24 images."""
    size = NETWORKS[name]
    body, pixels = random_body(name, size), images(24, size)
    calibration = inference.calibrate(body, backbone(name)) if precision == "int8" else None

    def features(order):
        run = inference.compile(body, (len(order), *pixels.shape[1:]), precision, calibration=calibration)
        return run(mx.nd.array(pixels[order])).asnumpy()

    whole = features(np.arange(24))
    assert len({feature.tobytes() for feature in whole}) == 24
    # Other images, other neighbours, other places.
    orders = [np.random.default_rng(count).permutation(24)[:count] for count in BATCH_SIZES]
    return [len(order) for order in orders if features(order).tobytes() != whole[order].tobytes()]


@pytest.mark.parametrize("precision", IN_BATCHES)
def test_a_feature_is_the_same_bytes_in_every_batch(precision):
    """As in the workers: with the environment that ``inference`` asks for, set before MXNet is loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_inference", precision],
        env={**os.environ, **inference.ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {name: [] for name in IN_BATCHES[precision]}


def test_results_outlive_the_next_batch():
    """A worker starts the next batch before it has read the last one's features."""
    run = inference.compile(random_body("mobilenet0.25", 64), (2, 3, 64, 64))
    first, second = (mx.nd.array(part) for part in np.split(images(4, 64), 2))
    kept = run(first)
    other = run(second)
    mx.nd.waitall()
    assert error(other.asnumpy(), kept.asnumpy()) > 1e-3
    assert np.array_equal(kept.asnumpy(), run(first).asnumpy())


def test_bfloat16_is_near_float32():
    body = random_body("resnet18_v1", 96)
    batch = mx.nd.array(images(4, 96))
    exact, rounded = (inference.compile(body, batch.shape, precision)(batch) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == np.float32
    # bfloat16 has 8 significant bits, and there are 20 layers.
    assert 2**-9 < error(rounded.asnumpy(), exact.asnumpy()) < 0.04


def test_float16_computes_in_float16():
    """Only the graph: float16 needs a GPU."""
    body = random_body("vgg11_bn", 64)
    symbol, params = inference.rewrite(*inference.trace(body), rows=5, dtype=np.float16)
    arguments, outputs, _ = symbol.infer_type(data=np.float32)
    assert {np.dtype(t) for t in arguments[1:]} == {np.dtype(np.float16)}
    assert {p.dtype for p in params.values()} == {np.float16}
    assert outputs == [np.float32]


@pytest.mark.parametrize("context, precision", [(mx.cpu(), "float16"), (mx.gpu(), "int8"), (mx.gpu(), "bfloat16")])
def test_a_precision_the_device_lacks_is_refused(context, precision):
    with pytest.raises(InputError, match=f"{precision} does not run on a {context.device_type}"):
        inference.compile(None, (1, 3, 224, 224), precision, context)


def rewritten(layers, shape):
    """Rewrites a sequence of Gluon layers; returns their names in the new graph, old and new output for one input."""
    net = mx.gluon.nn.HybridSequential()
    net.add(*layers)
    net.initialize(mx.init.Normal(0.5))
    x = mx.nd.array(np.random.default_rng(3).standard_normal(shape))
    expected = net(x).asnumpy()
    for layer in layers:
        if isinstance(layer, mx.gluon.nn.BatchNorm) and layer._kwargs["fix_gamma"]:
            # MXNet ignores this gamma, and has just overwritten it with ones.
            layer.gamma.set_data(mx.nd.full(layer.gamma.shape, 3))
    symbol, params = inference.rewrite(*inference.trace(net), rows=shape[0])
    operators = [node["op"] for node in json.loads(symbol.tojson())["nodes"] if node["op"] != "null"]
    auxiliary = {name: params[name] for name in symbol.list_auxiliary_states()}
    (computed,) = symbol.bind(mx.cpu(), {**params, "data": x}, aux_states=auxiliary).forward()
    return operators, expected, computed.asnumpy()


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


def padding(top, bottom, left, right, value=0):
    sides = (0, 0, 0, 0, top, bottom, left, right)
    return mx.gluon.nn.HybridLambda(lambda F, x: F.pad(x, mode="constant", constant_value=value, pad_width=sides))


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
    first, second = (inference.rewrite(*inference.trace(random_body("vgg11_bn", 64)), rows=3) for _ in range(2))
    assert first[0].tojson() == second[0].tojson()
    assert list(first[1]) == list(second[1])


if __name__ == "__main__":
    print(json.dumps({name: differing_batch_sizes(name, sys.argv[1]) for name in IN_BATCHES[sys.argv[1]]}))
