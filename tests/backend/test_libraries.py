"""Importing MXNet on machines that lack a library. Each case is a process that sees a site-packages made up for it."""

import _ctypes
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Tells what is loaded, and does not find a library of the system that is named in $LACKING.
CDLL = """
import ctypes, os
load = ctypes.CDLL
def CDLL(name, mode=ctypes.DEFAULT_MODE):
    if name and name in os.environ.get("LACKING", ""):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")
    if name and "/nvidia/" in name:
        print("loaded", os.path.basename(name), "for all" if mode & ctypes.RTLD_GLOBAL else "")
        return
    return load(name, mode)
ctypes.CDLL = CDLL
"""
# A machine of each kind.
X86 = "import platform\nplatform.machine = lambda: 'x86_64'\n"
ARM = "import platform\nplatform.machine = lambda: 'aarch64'\n"


def needing(*libraries):
    """A package that finds its libraries next to itself or in the system, as libmxnet.so does."""
    return f"""
import ctypes, os
for name in {libraries!r}:
    if not os.path.exists(os.path.join(os.path.dirname(__file__), name)):
        ctypes.CDLL(name)
"""


def test_the_gpu_build_without_a_driver_is_one_sentence(site):
    site.mxnet(needing("libcuda.so.1"))
    assert site.sentence(CDLL, LACKING="libcuda.so.1") == (
        "this is the GPU build of MXNet and there is no NVIDIA driver (libcuda.so.1): install the driver, "
        "or the CPU build by `make setup GPU=no`"
    )


@pytest.mark.parametrize("library", ["libgomp.so.1", "libquadmath.so.0", "libcudnn.so.8"])
def test_a_missing_library_is_named(site, library):
    site.mxnet(needing(library))
    assert site.sentence(X86 + CDLL, LACKING=library) == (
        f"MXNet cannot load {library}: run `make setup`, and if that does not help install the library "
        "(on Debian and Ubuntu: apt-get install libgomp1 libquadmath0)"
    )


def test_a_library_that_another_wheel_brings_is_linked(site):
    site.mxnet(needing("libgomp.so.1"))
    site.file("scikit_learn.libs/libgomp-a34b3233.so.1.0.0", "the library")
    assert site.run(CDLL, LACKING="libgomp.so.1") == (0, "imported mxnet\n", "")
    link = site.folder / "mxnet/libgomp.so.1"
    assert os.readlink(link) == "../scikit_learn.libs/libgomp-a34b3233.so.1.0.0"
    assert link.read_text() == "the library"
    # The next process finds it there.
    assert site.run(CDLL, LACKING="libgomp.so.1") == (0, "imported mxnet\n", "")


def test_a_link_to_a_wheel_that_was_replaced_is_made_anew(site):
    site.mxnet(needing("libgomp.so.1"))
    site.file("scikit_learn.libs/libgomp-new.so.1.0.0", "the library")
    (site.folder / "mxnet/libgomp.so.1").symlink_to("../scikit_learn.libs/libgomp-old.so.1.0.0")
    assert site.run(CDLL, LACKING="libgomp.so.1") == (0, "imported mxnet\n", "")
    assert (site.folder / "mxnet/libgomp.so.1").read_text() == "the library"


def test_only_what_the_system_lacks_is_linked(site):
    site.mxnet(needing("libgomp.so.1", "libcuda.so.1"))
    site.file("scikit_learn.libs/libgomp-a34b3233.so.1.0.0")
    system_has_all = f"{X86}{CDLL}\nload = lambda name, mode: None"
    assert "no NVIDIA driver" in site.sentence(system_has_all, LACKING="libcuda.so.1")
    assert sorted(path.name for path in site.folder.glob("mxnet/lib*")) == []


# --- CUDA as wheels --------------------------------------------------------------------------------------------------


def test_cuda_libraries_from_wheels_are_loaded_before_mxnet_each_after_those_it_needs(site):
    for path in ("cudnn/lib/libcudnn.so.8", "cublas/lib/libcublas.so.11", "cublas/lib/libcublasLt.so.11",
                 "cuda_runtime/lib/libcudart.so.11.0", "cudnn/lib/libcudnn_ops_infer.so.8"):  # fmt: skip
        site.file(f"nvidia/{path}")
    site.mxnet("print('mxnet begins')")
    assert site.run(CDLL)[1].splitlines() == [
        "loaded libcudart.so.11.0 for all",
        "loaded libcublasLt.so.11 for all",
        "loaded libcublas.so.11 for all",
        "loaded libcudnn.so.8 for all",
        "mxnet begins",
        "imported mxnet",
    ]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_loader_takes_a_loaded_wheel_for_what_libmxnet_links_to(site, tmp_path):
    def compile(path, source, *options):
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source.c").write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", path, tmp_path / "source.c", *options], check=True)

    cudart = site.folder / "nvidia/cuda_runtime/lib/libcudart.so.11.0"
    compile(cudart, "int version(void) { return 11; }", "-Wl,-soname,libcudart.so.11.0")
    library = "int version(void); int twice(void) { return 2 * version(); }"
    site.mxnet("import ctypes, os\nprint(ctypes.CDLL(os.path.dirname(__file__) + '/libmxnet.so').twice())")
    compile(site.folder / "mxnet/libmxnet.so", library, cudart)
    assert site.run() == (0, "22\nimported mxnet\n", "")
    cudart.unlink()
    assert site.sentence().startswith("MXNet cannot load libcudart.so.11.0: run `make setup`")


# --- 64-bit Arm ------------------------------------------------------------------------------------------------------

STAND_INS = {
    "libarmpl_lp64_mp.so": "libopenblas.so.0",
    "libastring.so": "liblapacke.so.3",
    "libamath.so": "libm.so.6",
}


@pytest.fixture
def system(tmp_path):
    """A folder where the loader looks first, with OpenBLAS and LAPACKE in it: they are but libraries of that name."""
    folder = tmp_path / "system"
    folder.mkdir()
    for name in ("libopenblas.so.0", "liblapacke.so.3"):
        shutil.copy(_ctypes.__file__, folder / name)
    return folder


def test_on_arm_openblas_and_lapacke_stand_for_arms_libraries(site, system):
    site.mxnet(needing(*STAND_INS))
    assert site.run(ARM, LD_LIBRARY_PATH=str(system)) == (0, "imported mxnet\n", "")
    links = {path.name: os.readlink(path) for path in site.folder.glob("mxnet/lib*")}
    assert {name: os.path.basename(path) for name, path in links.items()} == STAND_INS
    assert links["libarmpl_lp64_mp.so"] == str(system / "libopenblas.so.0")
    assert all(os.path.exists(path) for path in links.values())


def test_on_arm_a_link_to_what_was_moved_is_made_anew(site, system):
    site.mxnet(needing(*STAND_INS))
    (site.folder / "mxnet/libarmpl_lp64_mp.so").symlink_to("/usr/lib/gone/libopenblas.so.0")
    assert site.run(ARM, LD_LIBRARY_PATH=str(system)) == (0, "imported mxnet\n", "")
    assert os.readlink(site.folder / "mxnet/libarmpl_lp64_mp.so") == str(system / "libopenblas.so.0")


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("libopenblas.so.0 liblapacke.so.3", "libopenblas.so.0 and liblapacke.so.3"),
        ("liblapacke.so.3", "liblapacke.so.3"),
    ],
)
def test_on_arm_what_the_system_lacks_is_named_with_its_packages(site, system, lacking, said):
    site.mxnet(needing(*STAND_INS))
    sentence = (
        f"MXNet for 64-bit Arm computes with OpenBLAS and LAPACKE, and this machine lacks {said}: "
        "install both (on Debian and Ubuntu: apt-get install libopenblas0 liblapacke)"
    )
    assert site.sentence(ARM + CDLL, LACKING=lacking, LD_LIBRARY_PATH=str(system)) == sentence
    assert not list(site.folder.glob("mxnet/lib*"))
    # And before anything is installed.
    assert checked(ARM + CDLL, LACKING=lacking, LD_LIBRARY_PATH=str(system)) == f"error: {sentence}\n"


def test_on_arm_nothing_is_missing_where_arms_own_libraries_are(system):
    for name in STAND_INS:
        shutil.copy(_ctypes.__file__, system / name)
    assert checked(ARM + CDLL, LACKING="libopenblas.so.0", LD_LIBRARY_PATH=str(system)) == ""


def test_elsewhere_nothing_of_that_is_asked_for():
    assert checked(X86 + CDLL, LACKING="libopenblas.so.0 liblapacke.so.3") == ""


def checked(before, **environment):
    """What ``python -m stages.backend.libraries`` says on stderr, by Python alone, after the code ``before``."""
    program = f"{before}\nimport runpy\nrunpy.run_module('stages.backend.libraries', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == bool(done.stderr)
    return done.stderr
