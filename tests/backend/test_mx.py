"""Importing MXNet on machines that lack something. Each case is a process that sees a site-packages made up for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest

from tests.conftest import ROOT

NUMPY = Path(np.__file__).parent

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


class Site:
    """A site-packages folder; what else is needed is in another one."""

    def __init__(self, folder):
        self.folder, self.others = folder / "site", folder / "others"
        for place in (self.folder, self.others):
            place.mkdir()
        for name in ("numpy", "numpy.libs", "joblib", "cloudpickle"):
            (self.others / name).symlink_to(NUMPY.with_name(name))

    def mxnet(self, text):
        """Puts a package ``mxnet`` there; ``text`` is its code."""
        self.file("mxnet/__init__.py", text)

    def file(self, path, text=""):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def run(self, before="", **environment):
        """Uses ``stages.backend.mx`` after the code ``before``; returns (exit code, stdout, stderr)."""
        path = os.pathsep.join(map(str, (ROOT, self.folder, self.others)))
        environment = {**os.environ, "PYTHONPATH": path, **environment}
        program = (
            f"{before}\nfrom stages.backend.mx import mx\nfrom stages.common.errors import run\n"
            "run(lambda: print('imported', mx.__name__))"
        )
        # -S: without the site-packages of this Python.
        done = subprocess.run([sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def sentence(self, before="", **environment):
        """The sentence with which the import fails."""
        code, printed, complaint = self.run(before, **environment)
        assert code == 1
        assert complaint.startswith("error: ") and complaint.count("\n") == 1, complaint
        return complaint[len("error: ") : -1]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_mxnet_gets_the_physical_cores_unless_told_otherwise(site):
    site.mxnet("import os\nprint(os.environ['OMP_NUM_THREADS'])")
    cores = joblib.cpu_count(only_physical_cores=True)
    assert site.run("import os\nos.environ.pop('OMP_NUM_THREADS', None)") == (0, f"{cores}\nimported mxnet\n", "")
    assert site.run(OMP_NUM_THREADS="3") == (0, "3\nimported mxnet\n", "")


def test_importing_the_module_does_nothing(site):
    site.mxnet("raise SystemExit('MXNet is imported')")
    program = "import os, numpy\nbefore = dict(os.environ)\nimport stages.backend.mx\n"
    assert (
        site.run(f"{program}assert before == dict(os.environ) and not hasattr(numpy, 'bool')\nraise SystemExit")[0] == 0
    )


# --- As it is installed ----------------------------------------------------------------------------------------------


def python(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_importing_prints_nothing_whatever_python_warns_of():
    assert python("-W", "always", "-c", "from stages.backend.mx import mx; mx.nd.ones(2).asnumpy()") == (0, "", "")


def test_run_as_a_program_it_says_what_is_there():
    from stages.backend.mx import mx

    gpus = mx.context.num_gpus()
    expected = f"MXNet 1.9.1, {gpus} GPU{'s' * (gpus != 1)}, numpy {np.__version__}\n"
    assert python("-m", "stages.backend.mx") == (0, expected, "")


def test_what_mxnet_can_do_without_is_not_imported_and_can_be_later():
    program = """
import importlib.util, sys
from stages.backend.mx import mx
mx.nd.ones(2)
print({"scipy", "sklearn"} & set(sys.modules))
print(all(importlib.util.find_spec(name) for name in ("scipy", "sklearn")))
"""
    assert python("-c", program) == (0, "set()\nTrue\n", "")


# --- Not installed, or not fitting -----------------------------------------------------------------------------------

NOT_INSTALLED = f"MXNet is not installed for {sys.executable}: run `make setup`, then `source .venv/bin/activate`"


def test_without_mxnet_it_says_how_to_install_it(site):
    assert site.sentence() == NOT_INSTALLED


def test_what_an_uninstalled_mxnet_leaves_behind_is_no_mxnet(site):
    site.file("mxnet/libgomp.so.1")
    assert site.sentence() == NOT_INSTALLED


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("AttributeError", "`np.PZERO` was removed in the NumPy 2.0 release"),
        ("ImportError", "cannot import name 'x' from 'numpy'"),
        ("ModuleNotFoundError", "No module named 'distutils'"),
    ],
)
def test_packages_that_do_not_fit_are_one_sentence_with_the_reason(site, kind, reason):
    site.mxnet(f"raise {kind}({reason!r})")
    assert site.sentence() == (
        f"MXNet does not work with the packages installed for {sys.executable} ({reason}): "
        "it needs the versions in constraints.txt; run `make setup`"
    )


def test_numpys_old_name_is_there_while_mxnet_is_imported_and_later(site):
    site.mxnet("import numpy\nassert numpy.bool is numpy.bool_")
    assert site.run() == (0, "imported mxnet\n", "")


def test_what_mxnet_warns_of_while_it_is_imported_is_not_shown(site):
    site.mxnet("import warnings\nwarnings.warn('deprecated since 2018')")
    assert site.run() == (0, "imported mxnet\n", "")


# --- Libraries of the system -----------------------------------------------------------------------------------------


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
    assert site.sentence(CDLL, LACKING=library) == (
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
    system_has_all = f"{CDLL}\nload = lambda name, mode: None"
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
