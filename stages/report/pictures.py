"""Pictures of test images for the report: what is in the file, and beside it what the network saw of it."""

import io
from typing import NamedTuple, Optional

from PIL import Image

from stages.backbones.catalogue import Backbone
from stages.common.errors import InputError
from stages.dataset.sources.files.decode import decode
from stages.dataset.sources.files.places import Place, read
from stages.preprocessing import pixels

# Of a thumbnail's longer side, in pixels: sharp on a phone's screen, and a page of them stays small.
THUMBNAIL = 160


class Picture(NamedTuple):
    """Thumbnails, each the bytes of a JPEG file: of the whole image, and of the pixels that the network got."""

    file: bytes
    seen: bytes


def picture(place: Place, wanted: bytes, backbone: Backbone, resize: str) -> Optional[Picture]:
    """Of the image there, whose digest is ``wanted``; None where it is gone, or another one by now.

    backbone, resize: of the features; see :func:`pixels.pixels`.
    """
    try:
        data, digest = read(place)
        if digest != wanted:
            return None
        image, smaller = (decode(data, place.name, least) for least in (None, pixels.least_side(backbone)))
    except InputError:
        return None
    return Picture(thumbnail(image), thumbnail(Image.fromarray(pixels.pixels(smaller, backbone, resize))))


def small(place: Place, wanted: bytes, side: int) -> Optional[bytes]:
    """A thumbnail with sides of up to ``side`` pixels, of the image there; None as for :func:`picture`."""
    try:
        data, digest = read(place)
        return thumbnail(decode(data, place.name, 2 * side), side) if digest == wanted else None
    except InputError:
        return None


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> bytes:
    """An RGB image as a small JPEG file; never enlarged."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()
