"""From the bytes of an image file to the pixels a backbone wants."""

import io
import math
import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from stages.errors import InputError

# Raised whenever the same file would give other pixels than before.
VERSION = 2

INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

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

# A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves its crop this many times as large as what it is resized to.
# The pixels then differ from those of the whole image by less than 0.6 of 255 levels in the mean; a photo of 2,000
# pixels takes half the time.
GAP = 2

# Pillow refuses an image of more than twice this many pixels as a decompression bomb; below that it only warns.
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode(data, name, least=None):
    """Decodes the image file ``data`` (bytes) into an RGB Pillow image, upright, first frame only.

    Transparency is laid over white; 16-bit grey keeps its high byte. ``name`` is for messages. least: a JPEG may
    be decoded at a smaller scale if its sides keep so many pixels (see :func:`least_side`).
    Raises InputError for what is not an image, cut short, or larger than ``MAX_PIXELS``.
    """
    if not data:
        raise InputError(f"{name} is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if least is not None and image.format in ("JPEG", "MPO"):
                image.draft("RGB", (least, least))
            image.load()
            return _rgb(_upright(image))
    except UnidentifiedImageError:
        raise InputError(f"{name} is not an image of a kind that can be read") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name} has more than {MAX_PIXELS:,} pixels: refused as a decompression bomb") from None
    except Exception as error:
        # On damaged files Pillow's decoders raise whatever they stumble over, struct.error and RuntimeError included.
        raise InputError(f"{name} is damaged or cut short ({error})") from None


def _upright(image):
    # ImageOps.exif_transpose also writes the EXIF block anew, and fails where any entry of it is odd.
    turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)


def _rgb(image):
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    # Converting RGB would copy it.
    return image if image.mode == "RGB" else image.convert("RGB")


def least_side(backbone):
    """How many pixels the sides of an image must have for ``backbone``, more of which make no difference."""
    return math.ceil(GAP * backbone.size / backbone.crop)


def pixels(image, backbone, resize):
    """Resizes an RGB image for ``backbone``; returns uint8 of shape (size, size, 3).

    resize: "crop" takes the centre square that ``backbone.crop`` defines; "squash" takes the whole image and
    gives up its aspect ratio. The crop is resized in one step: the same pixels as resizing the whole
    image and then cropping, but for rounding.
    """
    width, height = image.size
    box = (0, 0, width, height)
    if resize == "crop":
        side = backbone.crop * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    size = (backbone.size, backbone.size)
    return np.asarray(image.resize(size, INTERPOLATION[backbone.interpolation], box=box))


def normalise(batch, backbone, out=None):
    """uint8 (n, size, size, 3) → float32 (n, 3, size, size), scaled to [0, 1], mean and std of ``backbone``.

    out: where to write it, by default a new array.
    """
    scale = np.array([1 / (255 * s) for s in backbone.std], dtype=np.float32)
    shift = np.array([-m / s for m, s in zip(backbone.mean, backbone.std)], dtype=np.float32)
    pixels = np.empty((len(batch), 3, *batch.shape[1:3]), np.float32) if out is None else out
    # Channel by channel: several times as fast as the whole at once and a transpose.
    for channel in range(3):
        np.multiply(batch[..., channel], scale[channel], out=pixels[:, channel])
        pixels[:, channel] += shift[channel]
    return pixels
