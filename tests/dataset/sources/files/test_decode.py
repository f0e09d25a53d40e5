"""From image files of every usual kind to upright RGB images."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from bench.pictures import encoded, photo
from stages.common.errors import InputError
from stages.dataset.sources.files.decode import decode
from tests.conftest import ROOT

PHOTO = photo(1, (75, 50))


def decoded(data):
    """The pixels of a file, as integers that can be subtracted."""
    image = decode(data, "cat/a.jpg")
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def distance(data, image):
    """The mean difference between the pixels of a file and those of an RGB image of the same size."""
    found = decoded(data)
    assert found.shape == (image.height, image.width, 3)
    return np.abs(found - np.asarray(image).astype(int)).mean()


def refusal(data):
    """The message with which a file is refused."""
    with pytest.raises(InputError) as refused:
        decode(data, "cat/a.jpg")
    message = str(refused.value)
    assert message.startswith("cat/a.jpg ")
    assert "\n" not in message
    return message


# Kinds of files


LOSSLESS = {
    "PNG": encoded(PHOTO, "PNG"),
    "BMP": encoded(PHOTO, "BMP"),
    "WebP": encoded(PHOTO, "WEBP", lossless=True),
    "TIFF": encoded(PHOTO, "TIFF"),
    "PPM": encoded(PHOTO, "PPM"),
}
JPEG = {
    "baseline": encoded(PHOTO, "JPEG", quality=95),
    "progressive": encoded(PHOTO, "JPEG", quality=95, progressive=True),
    "full colour": encoded(PHOTO, "JPEG", quality=95, subsampling=0),
    "CMYK": encoded(PHOTO.convert("CMYK"), "JPEG", quality=95),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_file_gives_the_exact_pixels(kind):
    assert distance(LOSSLESS[kind], PHOTO) == 0


@pytest.mark.parametrize("kind", JPEG)
def test_a_jpeg_gives_nearly_the_pixels_it_was_made_of(kind):
    assert distance(JPEG[kind], PHOTO) < 5
    assert distance(JPEG[kind], ImageOps.mirror(PHOTO)) > 20


def test_a_lossy_webp_gives_nearly_the_pixels_it_was_made_of():
    assert distance(encoded(PHOTO, "WEBP", quality=90), PHOTO) < 6


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("BMP", 0), ("JPEG", 2)])
def test_grey_becomes_three_equal_channels(kind, tolerance):
    grey = PHOTO.convert("L")
    found = decoded(encoded(grey, kind))
    assert (found == found[..., :1]).all()
    assert np.abs(found[..., 0] - np.asarray(grey).astype(int)).mean() <= tolerance


def test_one_bit_becomes_black_and_white():
    bits = PHOTO.convert("1")
    assert distance(encoded(bits, "PNG"), bits.convert("RGB")) == 0
    assert set(np.unique(decoded(encoded(bits, "PNG")))) == {0, 255}


def test_a_palette_gives_its_colours():
    palette = PHOTO.quantize(32)
    assert distance(encoded(palette, "PNG"), palette.convert("RGB")) == 0


def test_a_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 2), 1)
    found = decoded(encoded(image, "PNG", transparency=0))
    assert found[2, 1].tolist() == [200, 100, 50]
    assert found[0, 0].tolist() == [255, 255, 255]


def test_a_transparent_colour_without_a_palette_is_white():
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    image.putpixel((1, 2), (200, 100, 50))
    found = decoded(encoded(image, "PNG", transparency=(10, 20, 30)))
    assert found[2, 1].tolist() == [200, 100, 50]
    assert found[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_alpha_is_laid_over_white(kind, options):
    image = PHOTO.copy()
    image.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
    alpha = np.asarray(image)[..., 3:] / 255
    wanted = np.asarray(PHOTO) * alpha + 255 * (1 - alpha)
    assert np.abs(decoded(encoded(image, kind, **options)) - wanted).max() <= 1


def test_grey_with_alpha_is_laid_over_white():
    image = Image.new("LA", (2, 1))
    image.putpixel((0, 0), (0, 0))
    image.putpixel((1, 0), (0, 255))
    assert decoded(encoded(image, "PNG")).tolist() == [[[255] * 3, [0] * 3]]


def png16(values):
    """A PNG file with 16 bits a channel, from integers (height, width) for grey or (height, width, 3) for RGB."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    )


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_sixteen_bit_grey_keeps_its_high_byte():
    values = np.array([[0, 255, 256, 0x1234], [0x7FFF, 0x8000, 0xFE00, 0xFFFF]])
    found = decoded(png16(values))
    assert (found == (values >> 8)[..., None]).all()


def test_sixteen_bit_colour_keeps_its_high_byte():
    values = np.array([[[0, 256, 0x1234], [0xFFFF, 0x8000, 0x00FF]]])
    assert (decoded(png16(values)) == values >> 8).all()


def test_sixteen_bit_grey_tiff_keeps_its_high_byte():
    values = np.array([[0, 256, 0x1234, 0xFFFF]], np.uint16)
    assert (decoded(encoded(Image.fromarray(values), "TIFF")) == (values >> 8)[..., None]).all()


def tiff(numbers, bits, sample_format=1, photometric=1):
    """A TIFF file of one row of ``numbers``, an array."""
    data = numbers.tobytes()
    width = len(data) * 8 // bits
    # The offset of the data, 273, is behind the header, ten tags and the end of their list.
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: 1, 279: len(data)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


MEASURED = {
    "floating point, 0 to 1": tiff(np.linspace(0, 1, 4, dtype="<f4"), 32, 3),
    "floating point, 0 to 255": encoded(Image.fromarray(np.linspace(0, 255, 4, dtype="<f4")[None]), "TIFF"),
    "32 bits": tiff(np.arange(4, dtype="<u4") << 30, 32),
    "32 bits with a sign": tiff(np.arange(4, dtype="<i4"), 32, 2),
    "16 bits with a sign": tiff(np.arange(4, dtype="<i2"), 16, 2),
    "8 bits with a sign": tiff(np.arange(4, dtype="i1"), 8, 2),
    "12 bits": tiff(np.arange(6, dtype="u1"), 12),
    "16 bits from white": tiff(np.arange(4, dtype="<u2"), 16, 1, 0),
    "portable float map": b"Pf\n4 1\n-1.0\n" + np.linspace(0, 1, 4, dtype="<f4").tobytes(),
}


@pytest.mark.parametrize("data", MEASURED.values(), ids=MEASURED)
def test_numbers_that_would_not_be_shown_as_they_are_meant_are_refused(data):
    assert refusal(data) == "cat/a.jpg holds other numbers than 8 or 16 bits of brightness: save it with such"


def test_the_same_files_of_8_and_16_bits_are_not():
    values = np.array([0, 1, 0x80, 0xFF], "<u2")
    for data in (tiff(values * 257, 16), tiff(values.astype("u1"), 8), tiff(255 - values.astype("u1"), 8, 1, 0)):
        assert (decoded(data)[0, :, 0] == values).all()
    grey = b"P5\n4 1\n1000\n" + np.array([0, 250, 500, 1000], ">u2").tobytes()
    assert abs(decoded(grey)[0, :, 0] - np.array([0, 64, 127, 255])).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(kind):
    # GIF holds a palette: flat colours survive it.
    first, *others = (Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=others, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert distance(data, first) == 0


# What an image looks like when its camera says it is to be turned so; see the EXIF standard's tag 274.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photo_is_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    wanted = Image.fromarray(TURNED[orientation](np.asarray(PHOTO)))
    assert distance(encoded(PHOTO, kind, exif=exif), wanted) <= (0 if kind == "PNG" else 5)


def test_an_orientation_that_does_not_exist_is_passed_over():
    exif = Image.Exif()
    exif[274] = 9
    assert distance(encoded(PHOTO, "PNG", exif=exif), PHOTO) == 0


@pytest.mark.parametrize("tag", [0x0128, 0x011A], ids=["resolution unit", "resolution"])
def test_an_odd_entry_beside_the_orientation_is_passed_over(tag):
    # A number written as text, as some programs do.
    entries = [struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHI4s", tag, 2, 3, b"72\0\0")]
    block = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + b"".join(entries) + bytes(4)
    data = JPEG["baseline"]
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    assert distance(data, Image.fromarray(TURNED[6](np.asarray(PHOTO)))) < 5


# What is no image


def test_an_empty_file_is_refused():
    assert refusal(b"") == "cat/a.jpg is empty (0 bytes)"


@pytest.mark.parametrize(
    "data",
    [
        b"Once upon a time there was a text file.\n",
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        b"\0" * 1000,
        np.random.default_rng(0).bytes(1000),
        b"\xff",
    ],
    ids=["text", "HTML", "zeros", "noise", "one byte"],
)
def test_what_is_no_image_is_refused(data):
    assert refusal(data) == "cat/a.jpg is not an image of a kind that can be read"


FILES = {
    **{f"{kind} JPEG": data for kind, data in JPEG.items()},
    **LOSSLESS,
    "GIF": encoded(PHOTO.quantize(32), "GIF"),
    "lossy WebP": encoded(PHOTO, "WEBP"),
    "16-bit PNG": png16(np.arange(600).reshape(20, 30)),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.95])
def test_a_file_cut_short_is_refused(kind, share):
    data = FILES[kind]
    message = refusal(data[: int(len(data) * share)])
    assert "damaged or cut short" in message or "not an image" in message


@pytest.mark.parametrize("kind", ["baseline JPEG", "PNG"])
def test_a_file_that_lacks_its_last_bytes_is_refused(kind):
    assert "damaged or cut short" in refusal(FILES[kind][:-25])  # a PNG's last 20 hold no pixels


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_file_is_either_read_or_refused():
    # Whatever the decoders stumble over, it is never an error of their own.
    rng = np.random.default_rng(0)
    refused = 0
    for number, data in enumerate(list(FILES.values()) * 30):
        damaged = bytearray(data)
        reach = len(data) if number % 2 else min(len(data), 200)
        for place in rng.integers(0, reach, 4):
            damaged[place] = rng.integers(256)
        try:
            decode(bytes(damaged), "cat/a.jpg")
        except InputError as error:
            refused += 1
            assert str(error).startswith("cat/a.jpg ")
    assert refused > 100


def test_a_tiny_file_that_claims_to_be_huge_is_refused():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert "refused as a decompression bomb" in refusal(bomb)


LARGE = """
import io, warnings
from concurrent.futures import ThreadPoolExecutor
import numpy
from PIL import Image
warnings.simplefilter("error")
before = list(warnings.filters)
from stages.dataset.sources.files.decode import decode
assert warnings.filters == before
file = io.BytesIO()
Image.new("RGB", (12, 12), "red").save(file, "PNG")
Image.MAX_IMAGE_PIXELS = 100
with ThreadPoolExecutor(8) as pool:
    assert set(pool.map(lambda name: decode(file.getvalue(), name).size, map(str, range(100)))) == {(12, 12)}
"""


def test_a_large_image_is_decoded_without_a_word_and_importing_changes_no_filter():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
