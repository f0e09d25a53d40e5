"""Likeness: near-copies of photos are alike, other photos of the same kind are not."""

import numpy as np
import pytest

from bench.pictures import photo
from bench.planted import COPIES, pieces
from stages.findings import sketches
from stages.findings.twins import ALIKE, COARSE


def sketched(images):
    return np.stack([sketches.sketch(image) for image in images])


@pytest.fixture(scope="module")
def images():
    """Made-up photos and pieces of scikit-image's."""
    return [photo(seed, (160, 120)) for seed in range(30)] + [item.image for item in pieces()[::3]]


@pytest.mark.parametrize("kind", COPIES)
def test_near_copies_are_alike(images, kind):
    random = np.random.default_rng(0)
    ones, others = sketched(images), sketched([COPIES[kind](image, random) for image in images])
    found = sketches.likeness(ones, others)
    assert np.mean(found.whole * found.detail >= ALIKE) >= 0.95
    assert np.mean((sketches.coarse(ones) * sketches.coarse(others)).sum(axis=1) >= COARSE) >= 0.95


def test_it_is_the_same_both_ways_and_1_of_an_image_with_itself(images):
    ones = sketched(images[:20])
    others = np.roll(ones, 1, axis=0)
    assert sketches.likeness(ones, others).whole == pytest.approx(sketches.likeness(others, ones).whole, abs=1e-5)
    same = sketches.likeness(ones, ones)
    assert same.whole == pytest.approx(1, abs=1e-5) and same.detail == pytest.approx(1, abs=1e-5)


def test_other_photos_of_one_kind_are_not_alike(images):
    ones = sketched(images[::2])
    first, second = np.triu_indices(len(ones), 1)
    whole, detail = sketches.likeness(ones[first], ones[second])
    assert (whole * detail >= ALIKE).sum() == 0


def test_flat_images_are_alike_by_their_colour():
    flat = [np.full((32, 32, 3), colour, np.uint8) for colour in ((255, 255, 255), (250, 250, 250), (0, 0, 0))]
    whole = sketches.likeness(np.stack([flat[0], flat[0]]), np.stack([flat[1], flat[2]])).whole
    assert whole[0] > 0.99 and whole[1] < 0.1


def test_nothing_is_compared_with_nothing():
    none = np.zeros((0, 32, 32, 3), np.uint8)
    assert [len(part) for part in sketches.likeness(none, none)] == [0, 0]
