"""What a process of features needs, and which precisions a device has: one sentence for the others."""

import platform

import pytest

from stages.backbones.catalogue import BACKBONES
from stages.backend import cpu
from stages.common.errors import InputError
from stages.inference.environment import PRECISIONS, check, environment, remark

AVX2 = frozenset(["sse4_1", "avx", "avx2"])
AVX512 = AVX2 | frozenset(["avx512f", "avx512cd", "avx512bw", "avx512vl", "avx512dq"])
VNNI = AVX512 | frozenset(["avx512_vnni"])
BF16 = VNNI | frozenset(["avx512_bf16"])


@pytest.fixture
def machine(monkeypatch):
    """machine(flags): a CPU called "here" that has them."""

    def make(flags):
        monkeypatch.setattr(cpu, "flags", lambda: flags)
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(platform, "node", lambda: "here")
        for variable in (*cpu.LIMITS, cpu.SUITED):
            monkeypatch.delenv(variable, raising=False)

    return make


def sentence(precision, kind="cpu", **variables):
    with pytest.raises(InputError) as refused:
        check(precision, kind, variables)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "precision", "suited"),
    [
        ("efficientnet_lite0", "float32", "AVX512_MIC"),
        ("efficientnet_lite0", "int8", None),
        ("mobilenet0.25", "bfloat16", None),
        ("resnet18_v1", "float32", None),
    ],
)
def test_the_instruction_set_is_suggested_where_it_gains_and_never_dictated(name, precision, suited):
    variables = environment(BACKBONES[name], precision)
    assert variables.get(cpu.SUITED) == suited
    assert variables.keys().isdisjoint(cpu.LIMITS)
    assert variables["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("kind", "precision"), [(kind, each) for kind, its in PRECISIONS.items() for each in its])
def test_a_cpu_with_avx512_and_vnni_computes_in_every_precision(machine, kind, precision):
    machine(VNNI)
    check(precision, kind)


@pytest.mark.parametrize(("kind", "precision"), [("cpu", "float16"), ("gpu", "int8"), ("gpu", "bfloat16")])
def test_a_precision_the_kind_of_device_lacks_is_one_sentence(kind, precision):
    assert sentence(precision, kind).startswith(f"precision {precision} does not run on a {kind}, only float32 and ")


def test_bfloat16_without_avx512_is_one_sentence(machine):
    machine(AVX2)
    assert sentence("bfloat16") == (
        "featurize.precision: bfloat16 needs AVX-512, and the CPU of here has AVX2: set it to float32"
    )
    check("float32", "cpu")


@pytest.mark.parametrize(("flags", "best"), [(AVX2, "AVX2"), (AVX512, "AVX512_CORE")])
def test_int8_without_vnni_is_one_sentence(machine, flags, best):
    machine(flags)
    assert sentence("int8") == (
        f"featurize.precision: int8 needs VNNI, and the CPU of here has {best}: set it to float32"
    )
    check("float32", "cpu")


@pytest.mark.parametrize(("precision", "needed"), [("bfloat16", "AVX-512"), ("int8", "VNNI")])
def test_a_cpu_that_is_not_x86_computes_in_float32_alone(machine, monkeypatch, precision, needed):
    machine(frozenset())
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert sentence(precision, DNNL_MAX_CPU_ISA="AVX2") == (
        f"featurize.precision: {precision} needs {needed}, and the CPU of here is aarch64: set it to float32"
    )
    check("float32", "cpu")


def test_vnni_is_had_without_avx512_too(machine):
    machine(AVX2 | frozenset(["avx_vnni"]))
    check("int8", "cpu")


def test_a_limit_below_vnni_is_named(machine):
    machine(VNNI)
    assert sentence("int8", DNNL_MAX_CPU_ISA="AVX512_CORE") == (
        "featurize.precision: int8 needs VNNI, and DNNL_MAX_CPU_ISA=AVX512_CORE limits the CPU of here to AVX512_CORE: "
        "unset DNNL_MAX_CPU_ISA, or set the precision to float32"
    )


@pytest.mark.parametrize("variable", cpu.LIMITS)
def test_a_limit_of_the_users_counts(machine, monkeypatch, variable):
    machine(AVX512)
    monkeypatch.setenv(variable, "AVX512_CORE")
    check("bfloat16", "cpu")
    monkeypatch.setenv(variable, "AVX2")
    with pytest.raises(InputError) as refused:
        check("bfloat16", "cpu")
    assert str(refused.value) == (
        f"featurize.precision: bfloat16 needs AVX-512, and {variable}=AVX2 limits the CPU of here to AVX2: "
        f"unset {variable}, or set the precision to float32"
    )


def test_a_limit_is_not_blamed_for_what_the_cpu_lacks(machine):
    machine(AVX2)
    assert sentence("bfloat16", DNNL_MAX_CPU_ISA="AVX512_CORE") == sentence("bfloat16")


def test_emulated_bfloat16_is_said_to_be_slow(machine):
    machine(VNNI)
    assert remark("bfloat16", "cpu") == (
        "note: the CPU of here has AVX512_CORE_VNNI and so emulates bfloat16: float32 is faster there, and more exact"
    )
    machine(BF16)
    assert remark("bfloat16", "cpu") is None
    assert "has AVX512_CORE and" in remark("bfloat16", "cpu", {"DNNL_MAX_CPU_ISA": "AVX512_CORE"})


@pytest.mark.parametrize(("precision", "kind"), [("float32", "cpu"), ("int8", "cpu"), ("float16", "gpu")])
def test_nothing_is_said_of_what_is_fast(machine, precision, kind):
    machine(VNNI)
    assert remark(precision, kind) is None
