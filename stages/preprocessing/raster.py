"""From the bytes of an image file to its pixels as an array, by the fastest decoder that gives the same ones."""

import contextlib
from typing import Optional

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from stages.dataset.sources.files.decode import JPEG, opened, rgb, turn, upright

Raster = NDArray[np.uint8]  # (height, width, 4): red, green, blue, and one that is no colour


def raster(data: bytes, name: str, least: Optional[int] = None) -> Raster:
    """The pixels of ``decode.decode(data, name, least)``, which see."""
    with opened(data, name, least) as image:
        if image.format in JPEG and image.mode == "RGB":
            # What it does not take as it is, be it odd or damaged, Pillow may, or has the words for.
            with contextlib.suppress(ValueError):
                return _of_jpeg(data, image)
        image.load()
        return _array(rgb(upright(image)))


def picture(pixels: Raster) -> Image.Image:
    """A raster as a Pillow image of mode "RGB"."""
    height, width = pixels.shape[:2]
    return Image.frombytes("RGB", (width, height), pixels.tobytes(), "raw", "RGBX")


def _of_jpeg(data: bytes, image: Image.Image) -> Raster:
    # libjpeg-turbo both, but straight into the array. Given the size that Pillow's scale leads to, it takes this scale.
    found = simplejpeg.decode_jpeg(data, "RGBX", min_height=image.height, min_width=image.width)
    if found.shape[:2] != (image.height, image.width):
        raise ValueError("another scale")
    needed = turn(image)
    return found if needed is None else _array(picture(found).transpose(needed))


def _array(image: Image.Image) -> Raster:
    return np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8).reshape(image.height, image.width, 4)
