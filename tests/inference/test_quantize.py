"""int8: ranges that depend on the backbone alone, and features close to those of float32."""

import json

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.inference import compile as inference
from stages.inference import quantize
from tests.inference.test_compile import NETWORKS, backbone, images, random_body

NAME = "resnet18_v1"
SIZE = NETWORKS[NAME]


@pytest.fixture(scope="module")
def body():
    return random_body(NAME, SIZE)


@pytest.fixture(scope="module")
def calibration(body):
    return inference.calibrate(body, backbone(NAME))


def test_the_calibration_images_are_always_the_same():
    first, second = quantize.images(64), quantize.images(64)
    assert first.shape == (quantize.IMAGES, 64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_the_calibration_images_are_different_and_use_the_whole_range():
    images = quantize.images(64)
    assert len({image.tobytes() for image in images}) == len(images)
    assert images.min() == 0 and images.max() == 255
    assert 40 < images.std() < 100
    # Neighbouring pixels are alike, as in a photograph.
    assert np.abs(np.diff(images.astype(float), axis=1)).mean() < images.std() / 2


def test_a_calibration_is_plain_data_and_belongs_to_the_weights(body, calibration):
    assert json.loads(json.dumps(calibration)) == calibration
    assert inference.calibrate(body, backbone(NAME)) == calibration
    assert all(low < high for low, high in calibration["ranges"].values())


def test_features_are_near_float32(body, calibration):
    # No pixel is beyond these values.
    batch = images(8, SIZE).clip(-2.1, 2.2)
    exact = inference.compile(body, batch.shape)(batch).asnumpy()

    stored = json.loads(json.dumps(calibration))
    rounded = inference.compile(body, batch.shape, "int8", calibration=stored)(batch)
    assert rounded.dtype == np.float32
    difference = np.linalg.norm(rounded.asnumpy() - exact) / np.linalg.norm(exact)
    assert 0.001 < difference < 0.1


def test_every_convolution_is_quantized(calibration):
    # 20, of them 3 on the shortcuts, and what they read.
    assert len(calibration["corrections"]) == 20
    assert len([name for name in calibration["ranges"] if name.startswith("sg_mkldnn_conv")]) == 20
    assert "data" in calibration["ranges"]


@pytest.mark.parametrize("groups", [1, 6])
def test_a_corrected_layer_keeps_the_mean_of_its_outputs(groups):
    """In MXNet's own integers: one convolution over inputs whose mean is far from 0."""
    random = np.random.default_rng(0)
    inputs = (random.uniform(0, 1, (4, 6, 64, 64)) * np.arange(1, 7).reshape(6, 1, 1)).astype(np.float32)
    weight = random.standard_normal((6, 6 // groups, 3, 3)).astype(np.float32)
    data = {"data": mx.nd.array(inputs)}
    params = {"weight": mx.nd.array(weight), "bias": mx.nd.zeros(6)}
    symbol = quantize.fuse(
        mx.sym.Convolution(*map(mx.sym.var, ("data", "weight", "bias")), kernel=(3, 3), num_filter=6, num_group=groups)
    )
    outputs, layers = quantize.measured(symbol, params)
    assert layers == [quantize.Layer("data", "weight", "bias")]

    def computed(symbol, params):
        used = {**params, **data}
        return symbol.bind(mx.cpu(), {name: used[name] for name in symbol.list_arguments()}).forward()[0].asnumpy()

    exact = computed(symbol, params)
    extremes = dict(zip(outputs, (inputs, exact)))
    ranges = {name: [float(values.min()), float(values.max())] for name, values in extremes.items()}

    def error(correction):
        calibration = {"ranges": ranges, "corrections": {"bias": correction.tolist()}}
        difference = computed(*quantize.quantize(symbol, params, calibration)) - exact
        return np.abs(difference.mean((0, 2, 3))).max()

    assert error(quantize.correction(weight, inputs.mean((0, 2, 3)))) < 0.2 * error(np.zeros(6))


def test_ranges_of_another_network_are_refused(body, calibration):
    ranges = dict(calibration["ranges"])
    gone = sorted(ranges)[3]
    del ranges[gone]
    with pytest.raises(ValueError, match=gone):
        inference.compile(body, (1, 3, SIZE, SIZE), "int8", calibration={**calibration, "ranges": ranges})


def test_without_ranges_int8_is_refused(body):
    with pytest.raises(ValueError, match="calibration"):
        inference.compile(body, (1, 3, SIZE, SIZE), "int8")
