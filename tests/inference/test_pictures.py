"""The calibration images: always the same, and like photographs where it matters."""

import numpy as np

from stages.inference import pictures


def test_the_calibration_images_are_always_the_same():
    first, second = pictures.images(64), pictures.images(64)
    assert first.shape == (pictures.PICTURES, 64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_the_calibration_images_are_different_and_use_the_whole_range():
    made = pictures.images(64)
    assert len({image.tobytes() for image in made}) == len(made)
    assert made.min() == 0 and made.max() == 255
    assert 40 < made.std() < 100
    # Neighbouring pixels are alike, as in a photograph.
    assert np.abs(np.diff(made.astype(float), axis=1)).mean() < made.std() / 2
