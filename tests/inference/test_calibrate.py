"""What is measured for int8: always the same for a backbone, and enough for features close to those of float32."""

import json
from dataclasses import replace

import numpy as np
import pytest

from stages.backend import cpu
from stages.common.errors import InputError
from stages.inference.calibrate import Calibration, measure
from stages.inference.compile import compiled
from tests.inference.bodies import NETWORKS, backbone, images, random_body

NAME = "resnet18_v1"
SIZE = NETWORKS[NAME]


@pytest.fixture
def vnni(monkeypatch):
    """A CPU that computes in int8, or is taken for one."""
    monkeypatch.setattr(cpu, "adds_in_32_bits", lambda *_: True)


@pytest.fixture(scope="module")
def body():
    return random_body(NAME, SIZE)


@pytest.fixture(scope="module")
def calibration(body):
    return measure(body, backbone(NAME))


def test_a_backbone_that_int8_is_not_for_is_refused_before_its_body_is_looked_at():
    with pytest.raises(InputError, match="^featurize.precision: convnext_tiny cannot be computed in int8: set it to "):
        measure(None, backbone("convnext_tiny"))


def test_a_calibration_belongs_to_the_weights(body, calibration):
    assert measure(body, backbone(NAME)) == calibration
    assert all(low < high for low, high in calibration.ranges.values())
    filters = {key: parameter.shape[0] for key, parameter in body.collect_params().items() if key.endswith("weight")}
    assert sorted(map(len, calibration.corrections.values())) == sorted(filters.values())


def test_it_comes_back_from_its_text(calibration):
    text = calibration.to_json()
    assert Calibration.from_json(text) == calibration
    assert Calibration.from_json(text).to_json() == text
    assert list(json.loads(text)) == ["ranges", "corrections"]
    # Its SHA-256 is part of the recipe of every int8 feature: to the byte.
    small = Calibration({"dä": (-1.0, 0.1)}, {"b": [2.5]})
    assert small.to_json() == (
        '{\n  "ranges": {\n    "dä": [\n      -1.0,\n      0.1\n    ]\n  },\n'
        '  "corrections": {\n    "b": [\n      2.5\n    ]\n  }\n}\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"ranges": {}}',
        '{"ranges": [], "corrections": {}}',
        '{"ranges": {"a": [1]}, "corrections": {}}',
        '{"ranges": {"a": ["low", "high"]}, "corrections": {}}',
        '{"ranges": {"a": [0, 1]}, "corrections": {"b": 1}}',
        "[" * 100_000,
    ],
)
def test_another_text_is_none(text):
    with pytest.raises(ValueError):
        Calibration.from_json(text)


@pytest.mark.skipif(not cpu.adds_in_32_bits(), reason="int8 needs VNNI, which this CPU lacks")
def test_features_are_near_float32(body, calibration):
    # No pixel is beyond these values.
    batch = images(8, SIZE).clip(-2.1, 2.2)
    exact = compiled(body, batch.shape)(batch).asnumpy()
    stored = Calibration.from_json(calibration.to_json())
    rounded = compiled(body, batch.shape, "int8", calibration=stored)(batch)
    assert rounded.dtype == np.float32
    difference = np.linalg.norm(rounded.asnumpy() - exact) / np.linalg.norm(exact)
    assert 0.001 < difference < 0.1


def test_every_convolution_is_quantized(calibration):
    # 20, of them 3 on the shortcuts, and what they read.
    assert len(calibration.corrections) == 20
    assert len([name for name in calibration.ranges if name.startswith("sg_mkldnn_conv")]) == 20
    assert "data" in calibration.ranges


def test_ranges_of_another_network_are_refused(vnni, body, calibration):
    ranges = dict(calibration.ranges)
    gone = sorted(ranges)[3]
    del ranges[gone]
    with pytest.raises(ValueError, match=gone):
        compiled(body, (1, 3, SIZE, SIZE), "int8", calibration=replace(calibration, ranges=ranges))


def test_without_ranges_int8_is_refused(vnni, body):
    with pytest.raises(ValueError, match="calibration"):
        compiled(body, (1, 3, SIZE, SIZE), "int8")
