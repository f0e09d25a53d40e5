"""The shared libraries that libmxnet.so links to and a machine may lack: found in wheels or in the system, and linked.

``python -m stages.backend.libraries`` says in one sentence what is missing; it needs no package but Python's own.
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from stages.common.errors import InputError, run

# What libmxnet.so of mxnet-cu112 links to, in an order in which each finds those it needs already loaded.
CUDA = (
    "libcudart.so.11.0", "libnvToolsExt.so.1", "libnvrtc.so.11.2", "libcublasLt.so.11", "libcublas.so.11",
    "libcufft.so.10", "libcurand.so.10", "libcusparse.so.11", "libcusolver.so.11", "libcudnn.so.8", "libnccl.so.2",
)  # fmt: skip

# Libraries of the GCC runtime that libmxnet.so expects the system to have, and what they are called in the wheels
# of numpy and scikit-learn, which bring their own.
GCC_RUNTIME = {"libgomp.so.1": "libgomp-*.so.1*", "libquadmath.so.0": "libquadmath-*.so.0*"}

# Arm's own libraries, which libmxnet.so for 64-bit Arm links to and no registry has; and what has the same functions.
# Which of them has which does not matter: the loader looks through all. numpy's and SciPy's wheels bring OpenBLAS under
# other names of its functions.
ARM = {
    "libarmpl_lp64_mp.so": "libopenblas.so.0",
    "libastring.so": "liblapacke.so.3",
    "libamath.so": "libm.so.6",
}

# dlfcn.h: what to ask dlinfo for to be told where a library was found.
_RTLD_DI_LINKMAP = 2


def load_cuda(site: Path) -> None:
    """Loads the CUDA libraries that were installed as wheels in ``site``, so that libmxnet.so finds them."""
    for name in CUDA:
        for path in site.glob(f"nvidia/*/lib/{name}"):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def link(site: Path) -> bool:
    """Links what stands for libraries that the system lacks next to libmxnet.so in ``site``, whose RPATH is $ORIGIN.

    Returns whether anything was linked.
    """
    links = []
    for library, target in (*_from_wheels(site), *_from_system()):
        place = site / "mxnet" / library
        if not place.exists() and not _loads(library):
            # One that leads nowhere: the wheel was replaced by another version, or the system's library by another.
            place.unlink(missing_ok=True)
            place.symlink_to(target)
            links.append(place)
    return bool(links)


def check() -> None:
    """Raises InputError where the system lacks what MXNet needs of it; MXNet need not be installed yet."""
    if _arm() and not all(_loads(library) for library in ARM):
        _check_arm()


def cannot_load(error: OSError) -> InputError:
    """What to say of ``error``, with which the system's loader ended the import of MXNet."""
    library = str(error).split(":")[0]
    if library.startswith("libcuda.so"):
        return InputError(
            "this is the GPU build of MXNet and there is no NVIDIA driver (libcuda.so.1): install the driver, "
            "or the CPU build by `make setup GPU=no`"
        )
    packages = "libgomp1 libopenblas0 liblapacke" if _arm() else "libgomp1 libquadmath0"
    return InputError(
        f"MXNet cannot load {library}: run `make setup`, and if that does not help install the library "
        f"(on Debian and Ubuntu: apt-get install {packages})"
    )


def _arm() -> bool:
    return platform.machine() == "aarch64"


def _check_arm() -> None:
    missing = [library for library in ARM.values() if not _loads(library)]
    if missing:
        raise InputError(
            f"MXNet for 64-bit Arm computes with OpenBLAS and LAPACKE, and this machine lacks {' and '.join(missing)}: "
            "install both (on Debian and Ubuntu: apt-get install libopenblas0 liblapacke)"
        )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _from_wheels(site: Path) -> Iterator[tuple[str, str]]:
    for library, wheels_name in GCC_RUNTIME.items():
        for copy in sorted(site.glob(f"*.libs/{wheels_name}"))[:1]:
            yield library, os.path.relpath(copy, site / "mxnet")


def _from_system() -> Iterator[tuple[str, str]]:
    if _arm():
        for library, stand_in in ARM.items():
            if _loads(stand_in):
                yield library, _where(stand_in)


class _LinkMap(ctypes.Structure):
    """The beginning of glibc's ``struct link_map``."""

    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]


def _where(library: str) -> str:
    """The path at which the system's loader finds ``library``."""
    found = ctypes.POINTER(_LinkMap)()
    handle = ctypes.c_void_p(ctypes.CDLL(library)._handle)
    ctypes.CDLL(None).dlinfo(handle, _RTLD_DI_LINKMAP, ctypes.byref(found))
    return os.fsdecode(found.contents.name)


if __name__ == "__main__":
    run(check)
