"""How batches are laid out for a graph."""

import numpy as np
import pytest

from stages.preprocessing.layout import Layout
from tests.inference.bodies import images


def test_a_batch_that_is_as_the_graph_expects_it_is_not_copied():
    batch = images(2, 8)
    assert Layout(2, 8).laid(batch) is batch


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_images_are_rotated_and_get_channels_of_zeros(rotated, channels):
    layout = Layout(2, 8, rotated, channels)
    for batch in np.split(images(4, 8), 2):
        laid = layout.laid(batch)
        assert (layout.upright(laid) == batch).all()
        assert laid.shape == (2, channels, 8, 8) and laid.dtype == np.float32
        assert (laid[:, :3] == (np.rot90(batch, 2, axes=(2, 3)) if rotated else batch)).all()
        assert not laid[:, 3:].any()
