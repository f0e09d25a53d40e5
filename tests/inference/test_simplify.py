"""How batches are laid out for a graph."""

import numpy as np
import pytest

from stages.backend import cpu
from stages.backend.mx import mx
from stages.inference.simplify import CHANNELS, layout, simplified
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


@pytest.mark.parametrize(("flags", "filters"), [("sse4_1 avx avx2", 5), ("sse4_1 avx avx2 avx512f", CHANNELS), ("", 5)])
def test_channels_are_filled_up_where_that_gains(monkeypatch, flags, filters):
    monkeypatch.setattr(cpu, "flags", lambda: frozenset(flags.split()))
    for variable in (*cpu.LIMITS, cpu.SUITED):
        monkeypatch.delenv(variable, raising=False)
    body = mx.gluon.nn.Conv2D(5, 3, in_channels=3)
    body.initialize()
    _, parameters, _ = simplified(body, (1, 3, 8, 8), "float32", "cpu")
    assert {len(parameter) for parameter in parameters.values()} == {filters}
