"""From the pixels of an image to its place in a batch: resized, normalised, and laid out as the network wants it."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from stages.backbones.catalogue import Backbone
from stages.preprocessing import pixels
from stages.preprocessing.layout import Layout
from stages.preprocessing.raster import Raster, picture

Row = NDArray[np.float32]  # (channels, size, size) of a batch
Fill = Callable[[Raster, Layout, Row], None]

# Images that Pillow resizes before machine code is loaded for it, which takes about as long as they gain by that.
FEW = 400


def filler(backbone: Backbone, resize: str) -> Fill:
    """A function that puts an image into its row of a batch of that layout, for threads to call at once.

    resize: see :func:`pixels.pixels`. It writes the same bytes whether Pillow resizes or machine code.
    """
    seen = itertools.count()
    scale, shift = pixels.normalisation(backbone)

    def fill(raster: Raster, layout: Layout, row: Row) -> None:
        resample = None if next(seen) < FEW else resampler()
        if resample is None:
            resized = pixels.pixels(picture(raster), backbone, resize)
            pixels.normalise(resized[None], backbone, out=layout.upright(row[None]))
            return
        height, width = raster.shape[:2]
        box = np.array(pixels.box_of(width, height, backbone, resize), np.float32)
        cubic = backbone.interpolation == "bicubic"
        resample(raster.view(np.uint32)[..., 0], box, cubic, layout.rotated, scale, shift, row)

    return fill


@functools.cache
def resampler() -> Optional[Callable[..., Any]]:
    """``resampling.resample``; None where there is no Numba for this machine, or no place for what it makes."""
    try:
        from stages.preprocessing.resampling import resample
    except (ImportError, OSError, RuntimeError):
        return None
    return resample
