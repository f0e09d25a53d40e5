"""How batches are laid out for a graph."""

import numpy as np
import pytest

from stages.inference.simplify import layout
from tests.inference.bodies import images


def test_a_batch_that_is_as_the_graph_expects_it_is_not_copied():
    batch = images(2, 8)
    assert layout(batch.shape, rotated=False, channels=3)(batch) is batch


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_it_is_rotated_and_gets_channels_of_zeros(rotated, channels):
    lay = layout((2, 3, 8, 8), rotated, channels)
    for batch in np.split(images(4, 8), 2):
        laid = lay(batch)
        assert laid.shape == (2, channels, 8, 8) and laid.dtype == np.float32
        assert (laid[:, :3] == (np.rot90(batch, 2, axes=(2, 3)) if rotated else batch)).all()
        assert not laid[:, 3:].any()
