"""Pairs that are nearly the same picture: which are found, and how many are looked at closely."""

import hashlib

import numpy as np
from PIL.PngImagePlugin import PngInfo

from bench.pictures import photo
from stages.common.settings import params
from stages.dataset.sources.files.places import Place
from stages.findings import sketches, twins
from stages.findings.gathered import Images
from stages.findings.neighbours import Neighbours
from tests.dependencies import ROOT

PICTURES, FILES = 3, 40


def test_many_files_of_one_picture_are_compared_as_one(tmp_path, monkeypatch):
    compared, likeness = [], sketches.likeness
    monkeypatch.setattr(sketches, "likeness", lambda ones, others: compared.append(len(ones)) or likeness(ones, others))
    count = PICTURES * FILES
    pictures, paths = [photo(number, (64, 48)) for number in range(PICTURES)], []
    for row in range(count):
        about = PngInfo()
        about.add_text("number", str(row))
        paths.append(tmp_path / f"{row}.png")
        pictures[row % PICTURES].save(paths[-1], pnginfo=about)
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    assert len(set(digests)) == count
    # Each has all the others for neighbours.
    rows = np.array([[other for other in range(count) if other != row] for row in range(count)], np.int32)
    near = Neighbours(rows[:, None], np.ones((count, 1, count - 1), np.float32))
    images = Images(
        features=[np.zeros((count, 1), np.float16)],
        labels=np.zeros(count, np.int64),
        subsets=np.zeros(count, np.int64),
        paths=[path.name for path in paths],
        places=[Place(str(path)) for path in paths],
        digests=digests,
        groups=[""] * count,
        classes=["one"],
    )
    found = twins.find(images, near, params.load(ROOT / "params.yaml").runtime)
    for row in range(count):
        assert sorted(found.of(row)) == [other for other in range(row % PICTURES, count, PICTURES) if other != row]
    # Of 7,140 pairs of files.
    assert sum(compared) <= PICTURES * (PICTURES + 1) / 2
