"""The images on which int8 is calibrated: made here, always the same, so that no feature depends on the user's data.

What matters of a photograph here is its spectrum (amplitude falls with frequency), its colours (brightness varies more
than hue), its contrast, and things with sharp edges that hide each other.
"""

import math

import numpy as np
from numpy.typing import NDArray

# Images whose layers' values set the ranges. On Lite0, 1 and 2, 16 or 32 of these, the photographs of the comparison
# themselves, and thresholds of least squared error all gave features equally close to float32 (cosine, within 0.002).
PICTURES = 16


def images(size: int) -> NDArray[np.uint8]:
    """Makes the calibration images: uint8 (PICTURES, size, size, 3)."""
    return np.stack([_image(size, np.random.RandomState(seed)) for seed in range(PICTURES)])


def _image(size: int, random: np.random.RandomState) -> NDArray[np.uint8]:
    # RandomState: numpy promises the same numbers from it in every version.
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = math.inf
    spectrum = np.fft.rfft2(random.standard_normal((3, size, size))) / frequency ** random.uniform(0.8, 1.6)
    noise = np.fft.irfft2(spectrum, s=(size, size))
    noise /= noise.std((1, 2), keepdims=True)
    # From brightness, red-blue and green-magenta to red, green and blue.
    mix = np.array([[0.6, 0.25, 0.06], [0.6, 0, -0.13], [0.6, -0.25, 0.06]])
    image = np.tensordot(mix, noise, 1) * random.uniform(0.1, 0.4) + random.uniform(0.25, 0.75)
    y, x = np.mgrid[:size, :size] / size
    for _ in range(8):
        up, left, radius = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.03, 0.4)
        if random.randint(2):
            inside = np.hypot(y - up, x - left) < radius
        else:
            inside = np.maximum(abs(y - up), abs(x - left) * random.uniform(0.2, 5)) < radius
        painted = image * random.uniform(0, 1) + random.uniform(-0.3, 1, (3, 1, 1))
        image = np.where(inside, painted, image)
    return (image.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
