"""The map: the same for the same features, clusters apart, whole or not accepted."""

import io

import numpy as np
import pytest
from PIL import Image

from stages.common.errors import InputError
from stages.findings import flat
from stages.findings.flat import Map
from tests.classifier.made import clouds


def test_what_is_alike_lies_together_and_the_same_features_give_the_same_map():
    features, labels = clouds(classes=3, per_class=30)
    found = flat.flat(features)
    assert found.shape == (90, 2) and found.min() == 0 and found.max() == flat.SPAN
    centres = np.stack([found[labels == label].mean(axis=0) for label in range(3)])
    nearest = ((found[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.95
    assert (flat.flat(features) == found).all()


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_a_few_images_have_their_places_too(count):
    assert flat.flat(clouds(classes=2, per_class=3)[0][:count]).shape == (count, 2)


def test_a_new_image_changes_one_of_those_that_are_shown_at_most(monkeypatch):
    monkeypatch.setattr(flat, "MOST", 50)
    digests = [np.random.default_rng(i).bytes(32) for i in range(200)]
    before = {digests[row] for row in flat.chosen(digests)}
    after = flat.chosen([bytes(32), *digests])
    assert len(before) == len(after) == 50
    assert len(before - {([bytes(32), *digests])[row] for row in after}) == 1
    assert flat.chosen(digests[:20]).tolist() == list(range(20))


def test_it_is_kept_with_its_tiles_and_damage_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sketches = np.zeros((60, 32, 32, 3), np.uint8)
    sketches[51] = 255
    flat.write(Map(paths=["a"] * 60, labels=[0] * 60, x=[1] * 60, y=[2] * 60), sketches)
    found, tiles = flat.load()
    assert found.x == [1] * 60
    sheet = np.asarray(Image.open(io.BytesIO(tiles)))
    assert sheet.shape == (64, 50 * 32, 3)
    assert sheet[40:60, 36:60].min() > 200 and sheet[:32].max() < 50
    flat.TILES.write_bytes(tiles[:-1])
    with pytest.raises(
        InputError, match="data/map/tiles.webp is damaged or of another run .*: run `dvc repro -f audit`"
    ):
        flat.load()
