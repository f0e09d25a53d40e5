"""What is made of a body before it is compiled."""

import pytest

from stages.backend import cpu
from stages.backend.mx import mx
from stages.inference.simplify import CHANNELS, simplified


@pytest.mark.parametrize(("flags", "filters"), [("sse4_1 avx avx2", 5), ("sse4_1 avx avx2 avx512f", CHANNELS), ("", 5)])
def test_channels_are_filled_up_where_that_gains(monkeypatch, flags, filters):
    monkeypatch.setattr(cpu, "flags", lambda: frozenset(flags.split()))
    for variable in (*cpu.LIMITS, cpu.SUITED):
        monkeypatch.delenv(variable, raising=False)
    body = mx.gluon.nn.Conv2D(5, 3, in_channels=3)
    body.initialize()
    _, parameters, _ = simplified(body, (1, 3, 8, 8), "float32", "cpu")
    assert {len(parameter) for parameter in parameters.values()} == {filters}
