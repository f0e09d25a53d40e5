"""From the bytes of an image file to an upright RGB image."""

import contextlib
import functools
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Optional

from PIL import ExifTags, Image, UnidentifiedImageError

from stages.common.errors import InputError

# Raised whenever the same file would give another image than before.
VERSION = 2

# Raised whenever a file is refused that was an image before.
STRICTNESS = 1

# Pillow's names of the formats whose pixels are a JPEG.
JPEG = ("JPEG", "MPO")

# By EXIF orientation; 1 is upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow refuses an image of more pixels as a decompression bomb, and from half of that on it warns.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)

# Several threads may decode at once.
_SILENCING = threading.Lock()


def decode(data: bytes, name: str, least: Optional[int] = None) -> Image.Image:
    """Decodes the image file ``data`` (bytes) into an RGB Pillow image, upright, first frame only.

    Transparency is laid over white; 16-bit grey keeps its high byte. ``name`` is for messages. least: a JPEG may
    be decoded at a smaller scale if its sides keep so many pixels (see :func:`least_side`).
    Raises InputError for what is not an image, cut short, or larger than ``MAX_PIXELS``, and for one of other numbers
    than whole ones of up to 16 bits from black: what is white in it the file does not tell.
    """
    with opened(data, name, least) as image:
        image.load()
        return rgb(upright(image))


@contextlib.contextmanager
def opened(data: bytes, name: str, least: Optional[int] = None) -> Iterator[Image.Image]:
    """The image file ``data`` with its header read and its pixels not yet; its ``size`` is that which these will have.

    Arguments and errors, those of what the block does with the image included, are :func:`decode`'s.
    """
    if not data:
        raise InputError(f"{name} is empty (0 bytes)")
    with _SILENCING:
        _silence_warnings()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if least is not None and image.format in JPEG:
                image.draft("RGB", (least, least))
            if _is_measured(image):
                raise InputError(f"{name} holds other numbers than 8 or 16 bits of brightness: save it with such")
            yield image
    except UnidentifiedImageError:
        raise InputError(f"{name} is not an image of a kind that can be read") from None
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{name} has more than {MAX_PIXELS:,} pixels: refused as a decompression bomb") from None
    except Exception as error:
        # On damaged files Pillow's decoders raise whatever they stumble over, struct.error and RuntimeError included.
        raise InputError(f"{name} is damaged or cut short ({error})") from None


@functools.cache
def _silence_warnings() -> None:
    """Lets Pillow not warn of images that it does decode."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _is_measured(image: Image.Image) -> bool:
    """Whether its numbers are measured ones, as in floating point, and would be shown too dark, too light, or cut."""
    # A PGM tells its greatest value; Pillow makes 16 bits of it.
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        return True
    if image.format != "TIFF":
        return False
    bits, signed, from_white = (image.getexif().get(tag) for tag in (258, 339, 262))
    sixteen = image.mode.startswith("I;16")
    return signed in (2, (2,)) or (sixteen and (bits not in (16, (16,)) or from_white == 0))


def turn(image: Image.Image) -> Optional[Image.Transpose]:
    """What makes ``image`` upright, by its EXIF block; None where it is."""
    return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def upright(image: Image.Image) -> Image.Image:
    """``image``, upright by its EXIF block."""
    # ImageOps.exif_transpose also writes the EXIF block anew, and fails where any entry of it is odd.
    needed = turn(image)
    return image if needed is None else image.transpose(needed)


def rgb(image: Image.Image) -> Image.Image:
    """``image`` as one of mode "RGB"; see :func:`decode`."""
    if image.mode.startswith("I"):
        import numpy as np  # most images do without it, and it takes its time to load

        # Pillow's own conversion clips 16-bit values at 255.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    # Converting RGB would copy it.
    return image if image.mode == "RGB" else image.convert("RGB")
