"""The only place that imports MXNet; the others say ``from stages.backend.mx import mx``.

``mx`` loads MXNet when it is first used. MXNet 1.9.1 was made for numpy 1.23, for setuptools' distutils, and for CUDA
11.2 libraries installed system-wide: what it needs on today's machines, ``load`` does before the import.
``python -m stages.backend.mx`` checks the installation and says what was found.
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from stages.backend import cpu
from stages.common.cores import cores
from stages.common.errors import InputError, run

# The packages that bring it: the CPU's and the GPU's build.
PACKAGES = ("mxnet", "mxnet-cu112")

# What libmxnet.so of mxnet-cu112 links to, in an order in which each finds those it needs already loaded.
CUDA_LIBRARIES = (
    "libcudart.so.11.0", "libnvToolsExt.so.1", "libnvrtc.so.11.2", "libcublasLt.so.11", "libcublas.so.11",
    "libcufft.so.10", "libcurand.so.10", "libcusparse.so.11", "libcusolver.so.11", "libcudnn.so.8", "libnccl.so.2",
)  # fmt: skip

# Libraries of the GCC runtime that libmxnet.so expects the system to have, and what they are called in the wheels
# of numpy and scikit-learn, which bring their own.
GCC_RUNTIME = {"libgomp.so.1": "libgomp-*.so.1*", "libquadmath.so.0": "libquadmath-*.so.0*"}

# What MXNet imports if it is there, for things that nothing here uses: a third of what its import takes.
OPTIONAL = ("scipy", "sklearn")


def _site_packages() -> Path:
    spec = importlib.util.find_spec("mxnet")
    # Without an origin it is but a folder of that name, such as what is left of an MXNet that was uninstalled.
    if spec is None or spec.origin is None:
        raise _not_installed()
    return Path(spec.origin).parent.parent


def _not_installed() -> InputError:
    return InputError(
        f"MXNet is not installed for {sys.executable}: run `make setup`, then `source .venv/bin/activate`"
    )


def _load_cuda_wheels(site: Path) -> None:
    """Loads the CUDA libraries that were installed as wheels, so that libmxnet.so finds them."""
    for name in CUDA_LIBRARIES:
        for path in site.glob(f"nvidia/*/lib/{name}"):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _link_gcc_runtime(site: Path) -> bool:
    """Links other wheels' copies of the GCC runtime next to libmxnet.so, whose RPATH is $ORIGIN.

    Only what the system lacks; returns whether anything was linked.
    """
    links = []
    for library, wheels_name in GCC_RUNTIME.items():
        copies = sorted(site.glob(f"*.libs/{wheels_name}"))
        link = site / "mxnet" / library
        if copies and not link.exists() and not _loads(library):
            # One that leads nowhere: the wheel was replaced by another version.
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(copies[0], link.parent))
            links.append(link)
    return bool(links)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Makes the import of ``packages`` fail, as if they were not installed; those imported before stay."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how an import is made to fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@functools.cache
def load() -> ModuleType:
    """Imports MXNet, with what it needs around it; returns the module.

    Sets ``numpy.bool``, OMP_NUM_THREADS where it is not set, and DNNL_MAX_CPU_ISA where a limit is (see ``cpu.limit``).
    Raises InputError where MXNet is not installed, or does not work here.
    """
    site = _site_packages()
    _load_cuda_wheels(site)
    # numpy 1.24 dropped this name; MXNet 1.9.1 uses it when it is imported and later.
    setattr(np, "bool", np.bool_)  # noqa: B010
    # MXNet would use half of what the system calls processors, as if they were all hyper-threads.
    os.environ.setdefault("OMP_NUM_THREADS", str(cores(physical=True)))
    if limit := cpu.limit():
        os.environ["DNNL_MAX_CPU_ISA"] = limit
    try:
        try:
            return _imported()
        except OSError:
            if not _link_gcc_runtime(site):
                raise
            return _imported()
    except OSError as error:
        raise InputError(_cannot_load(error)) from error
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"MXNet does not work with the packages installed for {sys.executable} ({error}): "
            "it needs the versions in constraints.txt; run `make setup`"
        ) from error


def loaded() -> bool:
    """Whether MXNet is loaded in this process, so that variables it reads when it is loaded come too late."""
    return load.cache_info().currsize > 0


def mxnet_version() -> str:
    """The version of MXNet, which is not loaded for it. Raises InputError where MXNet is not installed."""
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    raise _not_installed()


def _imported() -> ModuleType:
    with warnings.catch_warnings(), _hidden(OPTIONAL):
        warnings.simplefilter("ignore")
        import mxnet
    return mxnet


def _cannot_load(error: OSError) -> str:
    library = str(error).split(":")[0]
    if library.startswith("libcuda.so"):
        return (
            "this is the GPU build of MXNet and there is no NVIDIA driver (libcuda.so.1): install the driver, "
            "or the CPU build by `make setup GPU=no`"
        )
    return (
        f"MXNet cannot load {library}: run `make setup`, and if that does not help install the library "
        "(on Debian and Ubuntu: apt-get install libgomp1 libquadmath0)"
    )


class _MXNet:
    """Stands for the module ``mxnet`` and loads it when the first of its names is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(load(), name)

    def __reduce__(self) -> str:
        # Pickled by its name here, so that functions that use it can travel to other processes.
        return "mx"


mx: Any = _MXNet()


def main() -> None:
    """Says which MXNet is installed and what it can run on."""
    gpus = mx.context.num_gpus()
    print(f"MXNet {mx.__version__}, {gpus} GPU{'' if gpus == 1 else 's'}, numpy {np.__version__}")


if __name__ == "__main__":
    run(main)
