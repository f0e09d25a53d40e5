"""The only place that imports MXNet; the others say ``from stages.mx import mx``.

MXNet 1.9.1 was made for numpy 1.23, for setuptools' distutils, and for CUDA 11.2 libraries installed
system-wide. What it needs on today's machines is done here, before the import.
``python -m stages.mx`` checks the installation and says what was found.
"""

import ctypes
import glob
import importlib.util
import os
import sys
import warnings
from pathlib import Path

import numpy as np

from stages.errors import InputError

# What libmxnet.so of mxnet-cu112 links to, in an order in which each finds those it needs already loaded.
CUDA_LIBRARIES = (
    "libcudart.so.11.0", "libnvToolsExt.so.1", "libnvrtc.so.11.2", "libcublasLt.so.11", "libcublas.so.11",
    "libcufft.so.10", "libcurand.so.10", "libcusolver.so.11", "libcudnn.so.8", "libnccl.so.2",
)  # fmt: skip

# Libraries of the GCC runtime that libmxnet.so expects from the system; the wheels of numpy and
# scikit-learn bring them too, under names of their own.
GCC_RUNTIME = ("libgomp", "libquadmath")


def _site_packages():
    spec = importlib.util.find_spec("mxnet")
    if spec is None:
        raise InputError(
            f"MXNet is not installed for {sys.executable}: run `make setup`, then `source .venv/bin/activate`"
        )
    return Path(spec.origin).parent.parent


def _load_cuda_wheels(site):
    """Loads the CUDA libraries that were installed as wheels, so that libmxnet.so finds them."""
    for name in CUDA_LIBRARIES:
        for path in glob.glob(str(site / "nvidia" / "*" / "lib" / name)):
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def link_gcc_runtime(site):
    """Where the system lacks a library of the GCC runtime, links the copy of another wheel next to libmxnet.so.

    libmxnet.so looks beside itself first (its RPATH is $ORIGIN). Returns the names that were linked.
    """
    linked = []
    for name in GCC_RUNTIME:
        for number in ("1", "0"):
            link = site / "mxnet" / f"{name}.so.{number}"
            copies = sorted(glob.glob(str(site / "*.libs" / f"{name}-*.so.{number}*")))
            if copies and not link.exists() and not _loads(link.name):
                link.symlink_to(os.path.relpath(copies[0], link.parent))
                linked.append(link.name)
    return linked


def _loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _import_mxnet():
    site = _site_packages()
    _load_cuda_wheels(site)
    # numpy 1.24 dropped this name; MXNet 1.9.1 uses it when it is imported and later.
    np.bool = np.bool_
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mxnet
    except OSError as error:
        if "libcuda.so" in str(error):
            raise InputError(
                "this is the GPU build of MXNet and there is no NVIDIA driver (libcuda.so.1): "
                "install the driver, or the CPU build with `make setup GPU=no`"
            ) from error
        library = str(error).split(":")[0]
        raise InputError(
            f"MXNet cannot load {library}: run `make setup` again, and if it still fails install that library "
            "(on Debian and Ubuntu `apt-get install libgomp1 libquadmath0`)"
        ) from error
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"MXNet does not work with the packages installed for {sys.executable} ({error}): "
            "it needs the versions in constraints.txt; run `make setup`"
        ) from error
    return mxnet


mx = _import_mxnet()


def main():
    """Says which MXNet is installed and what it can run on."""
    gpus = mx.context.num_gpus()
    print(f"MXNet {mx.__version__}, {gpus} GPU{'' if gpus == 1 else 's'}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
