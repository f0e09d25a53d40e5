"""What a process that computes features needs before it loads MXNet, and what its device can compute in."""

import os
import platform
from collections.abc import Callable, Mapping
from typing import Optional

from stages.backbones.catalogue import Backbone
from stages.backend import cpu
from stages.common.errors import InputError

# What a device can compute in. On both the features leave as float32.
PRECISIONS = {"cpu": ("float32", "bfloat16", "int8"), "gpu": ("float32", "float16")}


def _has_avx512(variables: Mapping[str, str]) -> bool:
    return "AVX512_CORE" in cpu.instruction_sets(variables)


# By precision: what a CPU needs for it, and whether it has that.
NEEDS: dict[str, tuple[str, Callable[[Mapping[str, str]], bool]]] = {
    "bfloat16": ("AVX-512", _has_avx512),
    "int8": ("VNNI", lambda variables: cpu.adds_in_32_bits(variables)),
}


def environment(backbone: Backbone, precision: str) -> dict[str, str]:
    """Variables to be set before MXNet is loaded, in every process that computes features of ``backbone``."""
    variables = {
        "OMP_NUM_THREADS": "1",
        # glibc: memory for a batch is kept for the next one. Given back, it comes anew page by page, which takes 4 %
        # of the time from JPEG files to Lite0's features. 32 MB is the most that is allowed; the first alone changes
        # nothing. Huge pages, where the system gives them: another 2 %.
        "GLIBC_TUNABLES": (
            f"glibc.malloc.mmap_threshold={32 << 20}:glibc.malloc.trim_threshold={256 << 20}:glibc.malloc.hugetlb=1"
        ),
        # For GPUs: algorithms that give the same bits every time, chosen without trying out which is fastest, and no
        # rounding of float32 to TF32.
        "MXNET_ENFORCE_DETERMINISM": "1",
        "MXNET_CUDNN_AUTOTUNE_DEFAULT": "0",
        "NVIDIA_TF32_OVERRIDE": "0",
    }
    if backbone.depthwise and precision == "float32":
        # oneDNN 2.4 would mix kernels for channels last with kernels for channels in blocks. Up to this instruction
        # set, which is AVX-512 all the same, it has the latter alone: a sixth faster on Lite0.
        variables[cpu.SUITED] = "AVX512_MIC"
    return variables


def check(precision: str, kind: str, variables: Mapping[str, str] = os.environ) -> None:
    """Raises InputError unless this machine's device of ``kind`` ("cpu" or "gpu") can compute in ``precision``.

    variables: the environment of the process that is to compute, in which the user may have limited the CPU.
    """
    known = PRECISIONS[kind]
    if precision not in known:
        raise InputError(f"precision {precision} does not run on a {kind}, only {' and '.join(known)}")
    if kind == "cpu":
        _check_cpu(precision, variables)


def remark(precision: str, kind: str, variables: Mapping[str, str] = os.environ) -> Optional[str]:
    """What a user wants to know before this machine's device of ``kind`` computes in ``precision``, if anything."""
    if kind != "cpu" or precision != "bfloat16" or "AVX512_CORE_BF16" in cpu.instruction_sets(variables):
        return None
    return (
        f"note: the CPU of {platform.node()} has {cpu.best(variables)} and so emulates bfloat16: float32 is faster "
        "there, and more exact"
    )


def _check_cpu(precision: str, variables: Mapping[str, str]) -> None:
    # oneDNN computes bfloat16 with AVX-512 alone, and without its bfloat16 instructions slowly. Without VNNI it adds
    # products of 8-bit integers by pairs in 16 bits, which saturate: features would be wrong (docs/cpus.md).
    if precision not in NEEDS or NEEDS[precision][1](variables):
        return
    needed, has = NEEDS[precision]
    this, best = f"the CPU of {platform.node()}", cpu.best(variables)
    verb = "has" if cpu.instruction_sets(variables) else "is"
    complaint, remedy = f"{this} {verb} {best}", "set it to float32"
    if has({}):
        # The first may be our own, where the user has set the second.
        names = (*reversed(cpu.LIMITS), cpu.SUITED)
        name = next(n for n in names if variables.get(n, "").upper() == cpu.limit(variables))
        complaint = f"{name}={variables[name]} limits {this} to {best}"
        remedy = f"unset {name}, or set the precision to float32"
    raise InputError(f"featurize.precision: {precision} needs {needed}, and {complaint}: {remedy}")
