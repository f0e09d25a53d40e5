"""Pictures for the report."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from bench.pictures import encoded, photo
from stages.backbones.catalogue import BACKBONES
from stages.dataset.sources.files.places import Place
from stages.report import pictures


def test_thumbnails_keep_their_shape_and_are_never_enlarged():
    large, small = (Image.open(io.BytesIO(pictures.thumbnail(photo(1, size)))) for size in ((640, 320), (8, 8)))
    assert large.size == (160, 80)
    assert small.size == (8, 8)


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_what_the_network_saw_is_the_crop_of_the_features(tmp_path, resize):
    # Red at the edges, which a crop leaves out: 7/8 of the height, and as much in the middle of the width.
    image = Image.new("RGB", (400, 200), "red")
    image.paste("blue", (100, 0, 300, 200))
    data = encoded(image, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    place, digest = Place(str(tmp_path / "a.png")), hashlib.sha256(data).digest()
    file, seen = (
        np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)
        for jpeg in pictures.picture(place, digest, BACKBONES["efficientnet_lite0"], resize)
    )
    assert file.shape == (80, 160, 3) and seen.shape == (160, 160, 3)
    blue = (seen[80, :, 2] > 128).mean()
    assert blue == pytest.approx(1.0 if resize == "crop" else 0.5, abs=0.02)
    assert pictures.picture(place, bytes(32), BACKBONES["efficientnet_lite0"], resize) is None
