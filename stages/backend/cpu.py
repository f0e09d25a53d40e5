"""What the CPU can do, and how much of it oneDNN may use, which computes for MXNet on CPUs.

Instruction sets have the names that oneDNN's ``DNNL_MAX_CPU_ISA`` takes, and are told apart as in oneDNN 2.4, the one
in MXNet 1.9.1 (https://oneapi-src.github.io/oneDNN/v2.4/dev_guide_cpu_dispatcher_control.html).
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

# The limits a user can set: MXNet's oneDNN reads the first alone, later ones the second too.
LIMITS = ("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA")

# The instruction set that suits the work best, for processes that have not loaded MXNet yet: a limit that gives way to
# the user's, which on a cluster is known on each machine alone.
SUITED = "HEADSTART_MAX_CPU_ISA"

CPUINFO = Path("/proc/cpuinfo")

# Every instruction set in rising order: what it extends, and the flags of /proc/cpuinfo it needs besides.
# AVX512_COMMON is a step that oneDNN has no name for.
_SETS = {
    "SSE41": ("", "sse4_1"),
    "AVX": ("SSE41", "avx"),
    "AVX2": ("AVX", "avx2"),
    "AVX2_VNNI": ("AVX2", "avx_vnni"),
    "AVX512_COMMON": ("AVX2", "avx512f"),
    "AVX512_MIC": ("AVX512_COMMON", "avx512cd avx512er avx512pf"),
    "AVX512_MIC_4OPS": ("AVX512_MIC", "avx512_4fmaps avx512_4vnniw"),
    "AVX512_CORE": ("AVX512_COMMON", "avx512bw avx512vl avx512dq"),
    "AVX512_CORE_VNNI": ("AVX512_CORE", "avx512_vnni"),
    "AVX512_CORE_BF16": ("AVX512_CORE_VNNI", "avx512_bf16"),
    "AVX512_CORE_AMX": ("AVX512_CORE_BF16", "amx_tile amx_int8 amx_bf16"),
}
# oneDNN 2.4 uses AMX only where the limit names it.
_UNLIMITED = frozenset(_SETS) - {"AVX512_CORE_AMX"}


def flags() -> frozenset[str]:
    """The flags of the CPU in /proc/cpuinfo; none where it is not an x86 one."""
    # Under emulation that file may be of the machine underneath.
    if not _is_x86():
        return frozenset()
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def limit(environment: Mapping[str, str] = os.environ) -> Optional[str]:
    """The lowest limit that ``environment`` sets, as ``DNNL_MAX_CPU_ISA`` takes it; None where it sets none.

    Which one is lowest depends on the CPU: AVX512_MIC leaves an ordinary one less than AVX512_CORE does. On one that
    is not x86 there is none: these are no names of its instruction sets, and what the user sets is left alone.
    """
    if not _is_x86():
        return None
    has = flags()
    named = (environment.get(variable, "").upper() for variable in (*LIMITS, SUITED))
    # Of equals the first: the user's own.
    return min((name for name in named if name in _ALLOWED), key=lambda name: len(_usable(has, name)), default=None)


def instruction_sets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The instruction sets that oneDNN may use here, in rising order: those that the CPU has and no limit forbids."""
    return _usable(flags(), limit(environment))


def adds_in_32_bits(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether oneDNN adds products of 8-bit integers in 32 bits here, by VNNI; not by pairs in 16, which saturate."""
    return bool({"AVX2_VNNI", "AVX512_CORE_VNNI"}.intersection(instruction_sets(environment)))


def best(environment: Mapping[str, str] = os.environ) -> str:
    """The last of :func:`instruction_sets`; where there is none, what kind of CPU it is, such as "aarch64"."""
    return (instruction_sets(environment) or [platform.machine()])[-1]


def _is_x86() -> bool:
    return platform.machine() == "x86_64"


def _usable(has: frozenset[str], limited: Optional[str]) -> list[str]:
    allowed = _UNLIMITED if limited is None else _ALLOWED[limited]
    usable: list[str] = []
    for name, (extended, needed) in _SETS.items():
        if name in allowed and extended in ("", *usable) and has.issuperset(needed.split()):
            usable.append(name)
    return usable


def _with_extended(name: str) -> frozenset[str]:
    return frozenset({name}) | _with_extended(_SETS[name][0]) if name else frozenset()


# What each limit allows.
_ALLOWED = {"ALL": _UNLIMITED, **{name: _with_extended(name) for name in _SETS if name != "AVX512_COMMON"}}
