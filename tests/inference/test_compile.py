"""The compiled body: the same function as the network, and the same bytes whatever else is in the batch.

`python -m tests.inference.test_compile PRECISION NETWORK…` prints the batch sizes that change features (none).
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.inference import compile as inference

# One of each kind, with the side of the images: smaller where the real one takes long and the layers allow it.
NETWORKS = {
    "efficientnet_lite0": 224, "mobilenet0.25": 224, "mobilenetv2_0.25": 224, "squeezenet1.1": 224, "alexnet": 224,
    "resnet18_v1": 96, "resnet18_v2": 96, "densenet121": 224, "inceptionv3": 299, "vgg11_bn": 64,
}  # fmt: skip

# The large ones were tried once; with these the whole file takes half a minute.
IN_BATCHES = (
    ("float32", ("squeezenet1.1", "resnet18_v1", "vgg11_bn")),
    ("float32", ("efficientnet_lite0", "mobilenetv2_0.25")),
    ("bfloat16", ("resnet18_v2", "vgg11_bn")),
    ("bfloat16", ("mobilenet0.25", "mobilenetv2_0.25")),
    ("int8", ("mobilenet0.25", "resnet18_v2", "vgg11_bn")),
)
BATCH_SIZES = (1, 2, 3, 5, 8, 16)

# Of the largest number. Rounding alone: 1e-5 through the random layers of a whole network.
NETWORK_ERROR = 4e-5


def random_body(name, size):
    """The frozen body of ``name`` with random weights, whose batch norms fit them: features differ between images."""
    mx.random.seed(1)
    np.random.seed(1)
    network = zoo.build(name)
    network.initialize(mx.init.Xavier(magnitude=4))
    body = zoo.body(network, "auto")
    body(mx.nd.zeros((1, 3, size, size))).wait_to_read()
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
    batch = images(3, NETWORKS[name])
    compiled = inference.compile(body, batch.shape)(batch).asnumpy()
    assert compiled.dtype == np.float32
    assert error(compiled, body(mx.nd.array(batch)).asnumpy()) <= NETWORK_ERROR
    # The features say something about the image, else all this would show nothing.
    assert error(compiled[0], compiled[1]) > 50 * NETWORK_ERROR


def differing_batch_sizes(name, precision):
    """The batch sizes with which any feature has other bytes than among 24 images."""
    size = NETWORKS[name]
    body, pixels = random_body(name, size), images(24, size)
    calibration = inference.calibrate(body, backbone(name)) if precision == "int8" else None

    def features(order):
        run = inference.compile(body, (len(order), *pixels.shape[1:]), precision, calibration=calibration)
        return run(pixels[order]).asnumpy()

    whole = features(np.arange(24))
    assert len({feature.tobytes() for feature in whole}) == 24
    # Other images, other neighbours, other places.
    orders = [np.random.default_rng(count).permutation(24)[:count] for count in BATCH_SIZES]
    return [len(order) for order in orders if features(order).tobytes() != whole[order].tobytes()]


@pytest.mark.parametrize(("precision", "names"), IN_BATCHES)
def test_a_feature_is_the_same_bytes_in_every_batch(precision, names):
    """As in the workers: with the environment that ``inference`` asks for, set before MXNet is loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.inference.test_compile", precision, *names],
        env={**os.environ, **inference.environment(BACKBONES[names[0]], precision)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {name: [] for name in names}


def test_results_outlive_the_next_batch():
    """A worker starts the next batch before it has read the last one's features."""
    run = inference.compile(random_body("mobilenet0.25", 64), (2, 3, 64, 64))
    first, second = np.split(images(4, 64), 2)
    kept = run(first)
    other = run(second)
    mx.nd.waitall()
    assert error(other.asnumpy(), kept.asnumpy()) > 1e-3
    assert np.array_equal(kept.asnumpy(), run(first).asnumpy())


def test_bfloat16_is_near_float32():
    body = random_body("resnet18_v1", 96)
    batch = images(4, 96)
    exact, rounded = (inference.compile(body, batch.shape, precision)(batch) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == np.float32
    # bfloat16 has 8 significant bits, and there are 20 layers.
    assert 2**-9 < error(rounded.asnumpy(), exact.asnumpy()) < 0.04


@pytest.mark.parametrize("context, precision", [(mx.cpu(), "float16"), (mx.gpu(), "int8"), (mx.gpu(), "bfloat16")])
def test_a_precision_the_device_lacks_is_refused(context, precision):
    with pytest.raises(InputError, match=f"{precision} does not run on a {context.device_type}"):
        inference.compile(None, (1, 3, 224, 224), precision, context)


if __name__ == "__main__":
    print(json.dumps({name: differing_batch_sizes(name, sys.argv[1]) for name in sys.argv[2:]}))
