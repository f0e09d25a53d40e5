"""The same features on CPUs of every kind that this one can play, or a sentence."""

import functools

import numpy as np
import pytest

from bench.instruction_sets import SETS, cosines, limited
from stages.backend import cpu

HERE = [name for name in SETS if name in cpu.instruction_sets({})]
# Of the worst image, and of all but a tenth of them.
LEAST = {"float32": (0.999999, 0.999999), "bfloat16": (0.99, 0.99), "int8": (0.985, 0.99)}
WITHOUT = {"float32": (), "bfloat16": ("SSE41", "AVX2"), "int8": ("SSE41", "AVX2", "AVX512_CORE")}

pytestmark = pytest.mark.skipif(not HERE, reason="only x86 CPUs have these instruction sets")


once = functools.cache(limited)


@pytest.fixture(scope="module")
def exact():
    return once(None, "float32").features


@pytest.mark.xdist_group("instruction sets")
@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("precision", LEAST)
def test_features_are_right_or_refused(exact, name, precision):
    found = once(name, precision)
    if name in WITHOUT[precision]:
        assert f"{precision} needs " in found.refused
        assert not found.features.size
    else:
        assert found.refused is None
        ranked = np.sort(cosines(found.features, exact))
        worst, most = LEAST[precision]
        assert ranked[0] >= worst and ranked[len(ranked) // 10] >= most


@pytest.mark.xdist_group("instruction sets")
@pytest.mark.skipif(not cpu.adds_in_32_bits({}), reason="this CPU lacks VNNI")
def test_int8_is_the_same_bytes_wherever_it_is_computed():
    for name in HERE:
        if name not in WITHOUT["int8"]:
            assert once(name, "int8").features.tobytes() == once(None, "int8").features.tobytes(), name


@pytest.mark.xdist_group("instruction sets")
def test_float32_differs_by_its_rounding_alone(exact):
    for name in HERE:
        assert abs(once(name, "float32").features - exact).max() < 1e-5 * abs(exact).max(), name
