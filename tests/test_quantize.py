"""int8: ranges that depend on the backbone alone, and features close to those of float32."""

import json

import numpy as np
import pytest

from stages import inference, quantize
from tests.test_inference import NETWORKS, backbone, images, random_body

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
    batch = images(8, SIZE)
    exact = inference.compile(body, batch.shape)(batch).asnumpy()
    stored = json.loads(json.dumps(calibration))
    rounded = inference.compile(body, batch.shape, "int8", calibration=stored)(batch)
    assert rounded.dtype == np.float32
    rounded = rounded.asnumpy()
    difference = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0.001 < difference < 0.1


def test_the_first_layer_stays_in_float32(calibration):
    assert calibration["float32"] == ["sg_mkldnn_conv_act_0"]
    assert "data" not in calibration["ranges"]
    # All others are quantized: 19 convolutions, 3 of them on the shortcuts.
    assert len([name for name in calibration["ranges"] if name.startswith("sg_mkldnn_conv")]) == 19


def test_ranges_of_another_network_are_refused(body, calibration):
    ranges = dict(calibration["ranges"])
    gone = sorted(ranges)[3]
    del ranges[gone]
    with pytest.raises(ValueError, match=gone):
        inference.compile(body, (1, 3, SIZE, SIZE), "int8", calibration={**calibration, "ranges": ranges})


def test_without_ranges_int8_is_refused(body):
    with pytest.raises(ValueError, match="calibration"):
        inference.compile(body, (1, 3, SIZE, SIZE), "int8")
