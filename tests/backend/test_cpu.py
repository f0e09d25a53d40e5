"""Which instruction sets oneDNN may use, on CPUs of every kind and under the limits a user can set."""

import os
import platform
import re
import subprocess
import sys

import pytest

from stages.backend import cpu
from tests.conftest import ROOT

AVX2 = "fpu sse4_1 sse4_2 avx avx2 fma"
SKYLAKE = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"
ICE_LAKE = f"{SKYLAKE} avx512_vnni"
SAPPHIRE_RAPIDS = f"{ICE_LAKE} avx_vnni avx512_bf16 amx_bf16 amx_tile amx_int8"
KNIGHTS_LANDING = f"{AVX2} avx512f avx512cd avx512er avx512pf"
# The flags of a CPU, and the best that oneDNN uses there.
CPUS = {
    "fpu sse2": "x86_64",
    "fpu sse4_1": "SSE41",
    "fpu sse4_1 avx": "AVX",
    AVX2: "AVX2",
    f"{AVX2} avx_vnni": "AVX2_VNNI",
    SKYLAKE: "AVX512_CORE",
    ICE_LAKE: "AVX512_CORE_VNNI",
    f"{ICE_LAKE} avx512_bf16": "AVX512_CORE_BF16",
    SAPPHIRE_RAPIDS: "AVX512_CORE_BF16",
    KNIGHTS_LANDING: "AVX512_MIC",
    f"{AVX2} avx512f": "AVX512_COMMON",
}

# What oneDNN 2.4 calls them when it is verbose.
SPOKEN = {
    "SSE41": "Intel SSE4.1",
    "AVX": "Intel AVX",
    "AVX2": "Intel AVX2",
    "AVX2_VNNI": "Intel AVX2 with Intel DL Boost",
    "AVX512_COMMON": "Intel AVX-512",
    "AVX512_MIC": "Intel AVX-512 with AVX512CD, AVX512ER, and AVX512PF extensions",
    "AVX512_CORE": "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    "AVX512_CORE_VNNI": "Intel AVX-512 with Intel DL Boost",
    "AVX512_CORE_BF16": "Intel AVX-512 with Intel DL Boost and bfloat16 support",
}
PROGRAM = """
from stages.backend.mx import mx
mx.nd.Convolution(mx.nd.ones((1, 16, 8, 8)), mx.nd.ones((16, 16, 3, 3)), no_bias=True, kernel=(3, 3), num_filter=16)
mx.nd.waitall()
"""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(flags): a CPU that has them from then on."""

    def make(flags):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nstepping\t: 1\nflags\t\t: {flags}\nbugs\t\t: spectre\n")
        monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    return make


def named(text):
    """The environment that ``text`` describes: D= and O= for oneDNN's variables, S= for the one of our own."""
    names = dict(zip("DOS", (*cpu.LIMITS, cpu.SUITED)))
    return {names[word[0]]: word[2:] for word in text.split()}


@pytest.mark.parametrize("flags", CPUS)
def test_the_best_is_what_the_cpu_has_all_flags_for(machine, flags):
    machine(flags)
    assert cpu.flags() == frozenset(flags.split())
    assert cpu.limit({}) is None
    assert cpu.best({}) == CPUS[flags]


def test_every_set_comes_with_those_it_extends(machine):
    machine(ICE_LAKE)
    assert cpu.instruction_sets({}) == ["SSE41", "AVX", "AVX2", "AVX512_COMMON", "AVX512_CORE", "AVX512_CORE_VNNI"]
    machine(SKYLAKE.replace("avx2 ", ""))
    assert cpu.instruction_sets({}) == ["SSE41", "AVX"]


# Under emulation the file may be of the x86 machine underneath.
@pytest.mark.parametrize("text", ["Features\t: fp asimd crc32\n", "", f"flags\t\t: {SKYLAKE}\n"])
def test_a_cpu_of_another_kind_has_none_and_is_named(monkeypatch, tmp_path, text):
    (tmp_path / "cpuinfo").write_text(text)
    for path in (tmp_path / "cpuinfo", tmp_path / "none"):
        monkeypatch.setattr(cpu, "CPUINFO", path)
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        assert cpu.instruction_sets({}) == []
        assert cpu.best({}) == "aarch64"


def test_a_limit_of_the_users_is_left_alone_where_the_cpu_is_not_x86(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert cpu.limit(named("D=SVE_256 S=AVX512_MIC")) is None


@pytest.mark.parametrize(
    ("flags", "variables", "limit", "best"),
    [
        (ICE_LAKE, "D=AVX2", "AVX2", "AVX2"),
        (ICE_LAKE, "O=AVX512_CORE", "AVX512_CORE", "AVX512_CORE"),
        # Both hold, in whichever order and however they are written.
        (ICE_LAKE, "D=AVX2 O=SSE41", "SSE41", "SSE41"),
        (ICE_LAKE, "D=SSE41 O=AVX2", "SSE41", "SSE41"),
        (ICE_LAKE, "O=avx2", "AVX2", "AVX2"),
        # One that the CPU does not reach changes nothing.
        (AVX2, "D=AVX512_CORE", "AVX512_CORE", "AVX2"),
        (ICE_LAKE, "D=ALL", "ALL", "AVX512_CORE_VNNI"),
        (ICE_LAKE, "D=nonsense O=DEFAULT", None, "AVX512_CORE_VNNI"),
        (SAPPHIRE_RAPIDS, "D=ALL", "ALL", "AVX512_CORE_BF16"),
        (SAPPHIRE_RAPIDS, "D=AVX512_CORE_AMX", "AVX512_CORE_AMX", "AVX512_CORE_AMX"),
        # What suits the work is a limit too, but never above the user's.
        (ICE_LAKE, "S=AVX512_MIC", "AVX512_MIC", "AVX512_COMMON"),
        (ICE_LAKE, "S=AVX512_MIC D=AVX512_CORE", "AVX512_MIC", "AVX512_COMMON"),
        (ICE_LAKE, "S=AVX512_MIC D=AVX2", "AVX2", "AVX2"),
        (ICE_LAKE, "S=AVX512_MIC O=SSE41", "SSE41", "SSE41"),
        (AVX2, "S=AVX512_MIC O=AVX2", "AVX2", "AVX2"),
        (f"{ICE_LAKE} avx_vnni", "S=AVX512_MIC D=AVX2_VNNI", "AVX2_VNNI", "AVX2_VNNI"),
        (KNIGHTS_LANDING, "S=AVX512_MIC D=AVX512_CORE", "AVX512_CORE", "AVX512_COMMON"),
    ],
)
def test_the_lowest_limit_holds(machine, flags, variables, limit, best):
    machine(flags)
    assert cpu.limit(named(variables)) == limit
    assert cpu.best(named(variables)) == best


@pytest.mark.parametrize("variables", ["", "D=SSE41", "D=sse41", "O=AVX", "S=AVX512_MIC", "S=AVX512_MIC O=AVX D=AVX2"])
@pytest.mark.skipif(not cpu.instruction_sets({}), reason="only x86 CPUs have these instruction sets")
def test_mxnet_computes_with_that(variables):
    """In a process that loads MXNet: what oneDNN itself says that it uses."""
    environment = {name: value for name, value in os.environ.items() if name not in (*cpu.LIMITS, cpu.SUITED)}
    environment |= {**named(variables), "DNNL_VERBOSE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"info,cpu,isa:(.*)", done.stdout)[1] == SPOKEN[cpu.best(named(variables))]
