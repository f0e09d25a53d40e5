"""The pixels of a file as an array: those of ``decode``, by whatever decoder."""

import itertools

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from bench.pictures import encoded, photo
from stages.common.errors import InputError
from stages.dataset.sources.files.decode import decode
from stages.preprocessing import raster as module
from stages.preprocessing.raster import picture, raster

SIZES = [(500, 375), (1199, 801), (17, 13), (1, 1), (3000, 40), (513, 512)]


def colours(data, least=None):
    found = raster(data, "a", least)
    assert found.shape[2] == 4 and found.dtype == np.uint8 and found.flags.c_contiguous
    assert (np.asarray(picture(found)) == found[..., :3]).all()
    return found[..., :3]


@pytest.mark.parametrize("size", SIZES)
def test_jpegs_are_decoded_to_the_same_pixels_without_pillow(monkeypatch, size):
    decoded = []
    monkeypatch.setattr(
        module, "_of_jpeg", lambda *given, its=module._of_jpeg: decoded.append(its(*given)) or decoded[-1]
    )
    image = photo(3, size)
    kinds = itertools.product((30, 90, 100), ("4:4:4", "4:2:2", "4:2:0"), (False, True))
    for quality, subsampling, progressive in kinds:
        data = encoded(image, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
        for least in (None, 512, 100):
            assert (colours(data, least) == np.asarray(decode(data, "a", least))).all()
    assert len(decoded) == 3 * 3 * 2 * 3


@pytest.mark.parametrize("orientation", range(10))
def test_they_are_turned_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(3, (1100, 800)), "JPEG", exif=exif)
    for least in (None, 300):
        assert (colours(data, least) == np.asarray(decode(data, "a", least))).all()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("GIF", "P"), ("TIFF", "I;16")],
)
def test_other_files_are_pillows(kind, mode):
    grey = mode.startswith("I;16")
    image = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100) if grey else photo(4).convert(mode)
    data = encoded(image, kind)
    assert (colours(data) == np.asarray(decode(data, "a"))).all()


def test_what_the_fast_decoder_refuses_goes_to_pillow(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("odd")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    data = encoded(photo(5), "JPEG")
    assert (colours(data) == np.asarray(decode(data, "a"))).all()


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.9, 0.999])
def test_what_is_cut_short_is_refused_in_the_same_words(part):
    data = encoded(photo(6, (200, 150)), "JPEG")
    data = data[: int(len(data) * part)]
    said = []
    for function in (decode, raster):
        with pytest.raises(InputError) as raised:
            function(data, "cat/a.jpg")
        said.append(str(raised.value))
    assert said[0] == said[1] and said[0].startswith("cat/a.jpg ")


def test_random_damage_gives_the_same_pixels_or_the_same_words():
    whole = bytearray(encoded(photo(7, (120, 90)), "JPEG"))
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(2, len(data), 3):
            data[place] = rng.integers(256)
        found = []
        for function in (decode, raster):
            try:
                found.append(np.asarray(function(bytes(data), "a"))[..., :3].tobytes())
            except InputError as error:
                found.append(str(error))
        assert found[0] == found[1]
