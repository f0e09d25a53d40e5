"""The compiled body: the same function as the network, and the same bytes whatever else is in the batch.

`python -m tests.inference.test_compile PRECISION NETWORK…` prints the batch sizes that change features (none).
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from stages.backbones.catalogue import BACKBONES
from stages.backend import cpu
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.inference.calibrate import measure
from stages.inference.compile import compiled
from stages.inference.environment import check, environment
from tests.inference.bodies import NETWORKS, backbone, error, images, random_body

# The large ones were tried once; with these the whole file takes half a minute.
IN_BATCHES = (
    ("float32", ("squeezenet1.1", "resnet18_v1", "vgg11_bn")),
    ("float32", ("efficientnet_lite0", "mobilenetv2_0.25")),
    ("float32", ("resnet50",)),
    ("float32", ("efficientnet_b0", "tf_efficientnet_b0", "mobilenet_v3_large", "convnext_tiny")),
    ("bfloat16", ("resnet18_v2", "vgg11_bn")),
    ("bfloat16", ("mobilenet0.25", "mobilenetv2_0.25")),
    ("bfloat16", ("resnet50",)),
    ("bfloat16", ("efficientnet_b0", "tf_efficientnet_b0", "mobilenet_v3_large", "convnext_tiny")),
    ("float32", ("vit_small_patch16_224", "vit_small_patch14_reg4_dinov2", "clip_vit_b32_quickgelu")),
    ("bfloat16", ("vit_small_patch16_224", "clip_vit_b32_quickgelu")),
    ("int8", ("mobilenet0.25", "resnet18_v2", "resnet50", "vgg11_bn")),
)
BATCH_SIZES = (1, 2, 3, 5, 8, 16)

# Of the largest number. Rounding alone: 1e-5 through the random layers of a whole network.
NETWORK_ERROR = 4e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_the_network(name):
    body = random_body(name, NETWORKS[name])
    batch = images(3, NETWORKS[name])
    features = compiled(body, batch.shape)(batch).asnumpy()
    assert features.dtype == np.float32
    assert error(features, body(mx.nd.array(batch)).asnumpy()) <= NETWORK_ERROR
    # The features say something about the image, else all this would show nothing.
    assert error(features[0], features[1]) > 50 * NETWORK_ERROR


def differing_batch_sizes(name, precision):
    """The batch sizes with which any feature has other bytes than among 24 images."""
    body, pixels = random_body(name, NETWORKS[name]), images(24, NETWORKS[name])
    calibration = measure(body, backbone(name)) if precision == "int8" else None

    def features(order):
        run = compiled(body, (len(order), *pixels.shape[1:]), precision, calibration=calibration)
        return run(pixels[order]).asnumpy()

    whole = features(np.arange(24))
    assert len({feature.tobytes() for feature in whole}) == 24
    # Other images, other neighbours, other places.
    orders = [np.random.default_rng(count).permutation(24)[:count] for count in BATCH_SIZES]
    return [len(order) for order in orders if features(order).tobytes() != whole[order].tobytes()]


def compute_or_refuse(precision):
    """True where this CPU computes in ``precision``; where it does not, that is one sentence."""
    try:
        check(precision, "cpu")
    except InputError:
        # Before the body is looked at.
        with pytest.raises(InputError, match=f"^featurize.precision: {precision} needs (AVX-512|VNNI), "):
            compiled(None, (1, 3, 64, 64), precision)
        return False
    return True


@pytest.mark.parametrize(("precision", "names"), IN_BATCHES)
def test_a_feature_is_the_same_bytes_in_every_batch(precision, names):
    """As in the workers: with the environment that ``inference`` asks for, set before MXNet is loaded."""
    if not compute_or_refuse(precision) and precision != "int8":
        return
    done = subprocess.run(
        [sys.executable, "-m", "tests.inference.test_compile", precision, *names],
        env={**os.environ, **environment(BACKBONES[names[0]], precision)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {name: [] for name in names}


def test_results_outlive_the_next_batch():
    """A worker starts the next batch before it has read the last one's features."""
    run = compiled(random_body("mobilenet0.25", 64), (2, 3, 64, 64))
    first, second = np.split(images(4, 64), 2)
    kept = run(first)
    other = run(second)
    mx.nd.waitall()
    assert error(other.asnumpy(), kept.asnumpy()) > 1e-3
    assert np.array_equal(kept.asnumpy(), run(first).asnumpy())


def test_bfloat16_is_near_float32():
    if not compute_or_refuse("bfloat16"):
        return
    body = random_body("resnet18_v1", 96)
    batch = images(4, 96)
    exact, rounded = (compiled(body, batch.shape, precision)(batch) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == np.float32
    # bfloat16 has 8 significant bits, and there are 20 layers.
    assert 2**-9 < error(rounded.asnumpy(), exact.asnumpy()) < 0.04


def test_a_precision_the_device_lacks_is_refused():
    """Before the body is looked at."""
    with pytest.raises(InputError, match="float16 does not run on a cpu"):
        compiled(None, (1, 3, 224, 224), "float16")


if __name__ == "__main__":
    # Without VNNI the features would be wrong, but in every batch alike.
    cpu.adds_in_32_bits = lambda *_: True
    print(json.dumps({name: differing_batch_sizes(name, sys.argv[1]) for name in sys.argv[2:]}))
