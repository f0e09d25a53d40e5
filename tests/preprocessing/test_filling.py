"""An image's place in a batch: the same bytes whether Pillow resizes it or machine code."""

import functools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from bench.pictures import photo
from stages.backbones.catalogue import BACKBONES
from stages.preprocessing import filling
from stages.preprocessing.filling import filler
from stages.preprocessing.layout import Layout
from stages.preprocessing.pixels import normalise, pixels
from tests.conftest import ROOT

SIZES = [
    (500, 375),
    (375, 500),
    (300, 1000),
    (640, 427),
    (224, 224),
    (224, 300),
    (8, 8),
    (1, 1),
    (1, 300),
    (300, 1),
    (2, 3),
]
# One of each size of input, interpolation and crop.
ONE_OF_EACH = {(b.size, b.interpolation, b.crop, b.resized): name for name, b in BACKBONES.items()}.values()


def raster(image):
    """As ``files.raster`` has it, with something in the place that is no colour."""
    return np.dstack([np.asarray(image), np.full(image.size[::-1], 99, np.uint8)])


@functools.cache
def pictures(size):
    """What is like a photo, and what is hardest."""
    return photo(1, size), edges(size)


def edges(size):
    """The hardest there is for an interpolation: noise, half of it black and white."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image[::2] = rng.choice([0, 255], image[::2].shape)
    return Image.fromarray(image)


def filled(image, backbone, resize, layout, few, monkeypatch):
    monkeypatch.setattr(filling, "FEW", few)
    batch = layout.zeros()
    filler(backbone, resize)(raster(image), layout, batch[1])
    assert not batch[0].any()
    return batch[1]


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_pillow_and_machine_code_fill_in_the_same_bytes(monkeypatch, name, resize):
    backbone = BACKBONES[name]
    for rotated, channels in ((False, 3), (True, 4)):
        layout = Layout(2, backbone.size, rotated, channels)
        for size in SIZES:
            for image in pictures(size):
                slow, fast = (filled(image, backbone, resize, layout, few, monkeypatch) for few in (1, 0))
                assert fast.tobytes() == slow.tobytes()
                wanted = normalise(pixels(image, backbone, resize)[None], backbone)[0]
                assert (fast[:3] == (wanted[:, ::-1, ::-1] if rotated else wanted)).all()
                assert not fast[3:].any()


def test_it_is_pillow_for_few_images_and_for_all_where_there_is_no_numba(monkeypatch):
    backbone, layout = BACKBONES["efficientnet_lite0"], Layout(1, 224)
    fill, batch, loaded = filler(backbone, "crop"), layout.zeros(), []
    monkeypatch.setattr(filling, "FEW", 2)
    monkeypatch.setattr(filling, "resampler", lambda: loaded.append(1))
    for _ in range(3):
        fill(raster(photo(1)), layout, batch[0])
    assert loaded == [1]
    monkeypatch.undo()
    filling.resampler.cache_clear()
    monkeypatch.setitem(sys.modules, "stages.preprocessing.resampling", None)
    assert filling.resampler() is None
    filling.resampler.cache_clear()


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the Numba for it cannot be told where to keep things")
def test_it_is_pillow_where_numba_cannot_keep_what_it_makes():
    program = "from stages.preprocessing import filling; print(filling.resampler())"
    only = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": "/proc/nowhere"}
    variables = {**os.environ, **only}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_threads_fill_rows_at_once(monkeypatch):
    monkeypatch.setattr(filling, "FEW", 3)
    backbone, layout = BACKBONES["efficientnet_lite0"], Layout(24, 224)
    fill, batch = filler(backbone, "crop"), layout.zeros()
    at_once = threading.Barrier(8)

    def put(row):
        at_once.wait()
        fill(raster(photo(row)), layout, batch[row])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(24)))
    wanted = normalise(np.stack([pixels(photo(row), backbone, "crop") for row in range(24)]), backbone)
    assert batch.tobytes() == wanted.tobytes()
