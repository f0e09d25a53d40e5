"""Places on the plane: the same for the same features, clusters apart."""

import numpy as np
import pytest

from stages.findings import flat
from stages.findings.plane import SPAN
from tests.classifier.made import clouds


def test_what_is_alike_lies_together_and_the_same_features_give_the_same_map():
    features, labels = clouds(classes=3, per_class=30)
    found = flat.flat(features)
    assert found.shape == (90, 2) and found.min() == 0 and found.max() == SPAN
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
