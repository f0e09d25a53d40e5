"""The only place that imports MXNet; the others say ``from stages.backend.mx import mx``.

``mx`` loads MXNet when it is first used. MXNet 1.9.1 was made for numpy 1.23, for setuptools' distutils, and for CUDA
11.2 libraries installed system-wide: what it needs on today's machines, ``load`` does before the import.
``python -m stages.backend.mx`` checks the installation and says what was found.
"""

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from stages.backend import cpu, libraries, postponed
from stages.backend.installed import site_packages
from stages.common.cores import cores
from stages.common.errors import InputError, run

# What MXNet imports if it is there, for things that nothing here uses: a third of what its import takes.
OPTIONAL = ("scipy", "sklearn")


@contextlib.contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Makes the import of ``packages`` fail, as if they were not installed, also of those imported before."""
    before = {name: sys.modules[name] for name in packages if name in sys.modules}
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]  # None is how an import is made to fail
    try:
        yield
    finally:
        for name in packages:
            del sys.modules[name]
        sys.modules.update(before)


@functools.cache
def load() -> ModuleType:
    """Imports MXNet, with what it needs around it; returns the module.

    Sets ``numpy.bool``, OMP_NUM_THREADS where it is not set, and DNNL_MAX_CPU_ISA where a limit is (see ``cpu.limit``).
    Raises InputError where MXNet is not installed, or does not work here.
    """
    site = site_packages()
    libraries.load_cuda(site)
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
            libraries.check()
            if not libraries.link(site):
                raise
            return _imported()
    except OSError as error:
        raise libraries.cannot_load(error) from error
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"MXNet does not work with the packages installed for {sys.executable} ({error}): "
            "it needs the versions in constraints.txt; run `make setup`"
        ) from error


def loaded() -> bool:
    """Whether MXNet is loaded in this process, so that variables it reads when it is loaded come too late."""
    return load.cache_info().currsize > 0


def _imported() -> ModuleType:
    with warnings.catch_warnings(), _hidden(OPTIONAL), postponed.operators():
        warnings.simplefilter("ignore")
        import mxnet
    return mxnet


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
