"""From an RGB image to the pixels of a backbone, and from pixels to the network's input."""

import numpy as np
import pytest
from PIL import Image

from bench.pictures import encoded, photo
from stages.backbones.catalogue import BACKBONES
from stages.dataset.sources.files.decode import decode
from stages.preprocessing.pixels import box_of, least_side, normalise, pixels
from tests import reference

PHOTO = photo(1, (75, 50))
LITE0 = BACKBONES["efficientnet_lite0"]


# Pixels


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_every_backbone_gets_the_size_it_wants(name, resize):
    backbone = BACKBONES[name]
    found = pixels(PHOTO, backbone, resize)
    assert found.shape == (backbone.size, backbone.size, 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg16"])
@pytest.mark.parametrize("size", [(512, 512), (768, 512), (512, 1024), (384, 256), (192, 128)])
def test_the_crop_is_that_of_the_resized_image(name, size):
    # Shorter side to 256, then the central 224, as the weights' authors have it.
    backbone = BACKBONES[name]
    image = photo(2, size)
    scale = 256 / min(size)
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[backbone.interpolation]
    resized = image.resize((int(size[0] * scale), int(size[1] * scale)), method)
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    wanted = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
    difference = np.abs(pixels(image, backbone, "crop").astype(int) - wanted)
    assert difference.max() <= 2
    assert difference.mean() < 0.3


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b2", "convnext_tiny"])
@pytest.mark.parametrize("size", [(512, 512), (451, 300), (301, 640), (1000, 872)])
def test_a_crop_at_whole_pixels_is_that_of_torchvision(name, size):
    # torchvision.transforms: Resize(resized), then CenterCrop(size), on PIL images; across before down.
    backbone, image = BACKBONES[name], photo(2, size)
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[backbone.interpolation]
    width, height = (int(backbone.resized * side / min(size)) for side in size)
    left, top = (int(round((side - backbone.size) / 2.0)) for side in (width, height))
    box = (left, top, left + backbone.size, top + backbone.size)
    narrow = image.resize((width, image.height), method)
    wanted = np.asarray(narrow.resize((width, height), method).crop(box)).astype(int)
    difference = np.abs(pixels(image, backbone, "crop").astype(int) - wanted)
    assert difference.max() <= 2
    assert difference.mean() < 0.1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2", "vgg16", "clip_vit_b16"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (640, 427), (150, 100)])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_pixels_are_what_they_are_by_definition_but_for_rounding(name, size, resize):
    # 0.30 of a level in the mean; to round once, at the end, would be 0.25.
    backbone, image = BACKBONES[name], photo(4, size)
    box = box_of(*size, backbone, resize)
    wanted = reference.resized(np.asarray(image), box, backbone.size, backbone.interpolation == "bicubic").clip(0, 255)
    difference = np.abs(pixels(image, backbone, resize) - wanted)
    assert difference.max() < 1.5
    assert difference.mean() < 0.32


@pytest.mark.parametrize("size", [(2000, 1500), (1100, 1300), (4000, 1100)])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_a_large_jpeg_is_decoded_smaller_for_nearly_the_same_pixels(size, resize):
    data = encoded(photo(7, size), "JPEG", quality=90)
    image = decode(data, "a.jpg", least_side(LITE0))
    assert least_side(LITE0) <= min(image.size) < min(size)
    found, whole = (pixels(each, LITE0, resize).astype(int) for each in (image, decode(data, "a.jpg")))
    assert 0 < np.abs(found - whole).mean() < 0.6


@pytest.mark.parametrize(("kind", "size"), [("JPEG", (500, 375)), ("JPEG", (1400, 600)), ("PNG", (2000, 1500))])
def test_what_is_not_large_enough_or_no_jpeg_is_decoded_whole(kind, size):
    assert decode(encoded(photo(7, size), kind), "a", least_side(LITE0)).size == size


def test_a_large_jpeg_on_its_side_is_turned_upright():
    image = photo(7, (2000, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(image, "JPEG", exif=exif), "a.jpg", least_side(LITE0)).size == (600, 1000)


def test_squash_takes_the_whole_image():
    image = photo(3, (600, 100))
    wanted = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC))
    assert (pixels(image, LITE0, "squash") == wanted).all()


def test_crop_leaves_the_ends_of_a_long_image_out_and_squash_does_not():
    image = Image.new("RGB", (300, 100), "white")
    image.paste("black", (0, 0, 50, 100))
    assert (pixels(image, LITE0, "crop") == 255).all()
    assert (pixels(image, LITE0, "squash") == 0).any()


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (1, 3000), (3000, 1), (2, 3)])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_an_odd_size_is_no_trouble(size, resize):
    image = Image.new("RGB", size, (10, 100, 200))
    found = pixels(image, LITE0, resize)
    assert (found == [10, 100, 200]).all()


def test_pixels_depend_on_nothing_but_the_image():
    assert (pixels(PHOTO, LITE0, "crop") == pixels(PHOTO.copy(), LITE0, "crop")).all()


# The network's input


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18_v1"])
def test_normalise_subtracts_the_mean_and_divides_by_the_standard_deviation(name):
    backbone = BACKBONES[name]
    batch = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    found = normalise(batch, backbone)
    assert found.dtype == np.float32
    assert found.shape == (2, 3, 5, 7)
    assert found.flags.c_contiguous
    for channel in range(3):
        wanted = (batch[..., channel] / 255 - backbone.mean[channel]) / backbone.std[channel]
        np.testing.assert_allclose(found[:, channel], wanted, atol=1e-5)


def test_normalise_takes_black_and_white_to_minus_one_and_one_for_lite():
    batch = np.stack([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)])
    np.testing.assert_allclose(normalise(batch, LITE0)[:, 0, 0, 0], [-1, 1], atol=1e-6)
