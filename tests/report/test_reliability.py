"""How far probability and accuracy are apart."""

import numpy as np
import pytest

from stages.report import reliability
from stages.report.reliability import Bin


def test_a_bin_has_the_mean_probability_and_the_accuracy_of_its_rows():
    probabilities = np.array([[0.7, 0.3], [0.31, 0.69], [0.97, 0.03], [1.0, 0.0]])
    found = reliability.bins(probabilities, np.array([0, 0, 0, 1]))
    assert len(found) == reliability.BINS
    assert found[10] == Bin(2, pytest.approx(0.695), 0.5)
    assert found[14] == Bin(2, pytest.approx(0.985), 0.5)
    assert all(each == Bin(0, 0, 0) for number, each in enumerate(found) if number not in (10, 14))
    assert reliability.expected_error(found) == pytest.approx((0.195 + 0.485) / 2)


def test_who_is_right_as_often_as_said_has_no_error():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 200_000)
    labels = (rng.uniform(0, 1, len(sure)) > sure).astype(int)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    assert reliability.expected_error(reliability.bins(probabilities, labels)) < 0.005
    # … and who is always right but says so less surely has the difference.
    modest = reliability.bins(probabilities, np.zeros(len(sure), int))
    assert reliability.expected_error(modest) == pytest.approx(1 - sure.mean())
