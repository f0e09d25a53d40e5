"""From an RGB image to the pixels a backbone was trained on."""

import math
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.backbones.catalogue import Backbone

Box = tuple[float, float, float, float]  # left, top, right, bottom

# Raised whenever the same image would give other pixels than before.
VERSION = 3

INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves its crop this many times as large as what it is resized to.
# The pixels then differ from those of the whole image by less than 0.6 of 255 levels in the mean; a photo of 2,000
# pixels takes half the time.
GAP = 2


def least_side(backbone: Backbone) -> int:
    """How many pixels the sides of an image must have for ``backbone``, more of which make no difference."""
    return math.ceil(GAP * backbone.size / backbone.crop)


def pixels(image: Image.Image, backbone: Backbone, resize: str) -> NDArray[np.uint8]:
    """Resizes an RGB image for ``backbone``; returns uint8 of shape (size, size, 3).

    resize: "crop" takes the centre square that ``backbone.crop`` defines; "squash" takes the whole image and
    gives up its aspect ratio. The crop is resized in one step: the same pixels as resizing the whole
    image and then cropping, but for rounding.
    """
    left, top, right, bottom = box_of(*image.size, backbone, resize)
    size, height, method = backbone.size, image.height, INTERPOLATION[backbone.interpolation]
    # Across, then down: at once, Pillow from 13 on begins with what it takes for cheaper, and rounds otherwise.
    narrow = image.resize((size, height), method, box=(left, 0, right, height))
    return np.asarray(narrow.resize((size, size), method, box=(0, top, size, bottom)))


def box_of(width: int, height: int, backbone: Backbone, resize: str) -> Box:
    """What of an image so large ``backbone`` gets to see; resize: see :func:`pixels`."""
    if resize == "squash":
        return 0, 0, width, height
    return _whole_pixels(width, height, backbone) if backbone.resized else _centre(width, height, backbone)


def _centre(width: int, height: int, backbone: Backbone) -> Box:
    side = backbone.crop * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _whole_pixels(width: int, height: int, backbone: Backbone) -> Box:
    # torchvision.transforms.v2.functional: `resize` cuts off what is behind the comma, `center_crop` rounds.
    sides = [int(backbone.resized * side / min(width, height)) for side in (width, height)]
    left, top = (round((side - backbone.size) / 2) for side in sides)
    x, y = width / sides[0], height / sides[1]
    return left * x, top * y, (left + backbone.size) * x, (top + backbone.size) * y


def normalisation(backbone: Backbone) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a colour is multiplied by, and what is added to it then: float32 (3,) each."""
    scale = np.array([1 / (255 * s) for s in backbone.std], dtype=np.float32)
    shift = np.array([-m / s for m, s in zip(backbone.mean, backbone.std)], dtype=np.float32)
    return scale, shift


def normalise(
    batch: NDArray[np.uint8], backbone: Backbone, out: Optional[NDArray[np.float32]] = None
) -> NDArray[np.float32]:
    """uint8 (n, size, size, 3) → float32 (n, 3, size, size), scaled to [0, 1], mean and std of ``backbone``.

    out: where to write it, by default a new array.
    """
    scale, shift = normalisation(backbone)
    planes = np.empty((len(batch), 3, *batch.shape[1:3]), np.float32) if out is None else out
    # Channel by channel: several times as fast as the whole at once and a transpose.
    for channel in range(3):
        np.multiply(batch[..., channel], scale[channel], out=planes[:, channel])
        planes[:, channel] += shift[channel]
    return planes
