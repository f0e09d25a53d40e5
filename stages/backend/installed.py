"""Which MXNet is installed, and where; nothing of it is loaded for that."""

import contextlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from stages.common.errors import InputError

# The packages that bring it: the CPU's and the GPU's build.
PACKAGES = ("mxnet", "mxnet-cu112")


def mxnet_version() -> str:
    """The version of MXNet. Raises InputError where it is not installed."""
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    raise _not_installed()


def site_packages() -> Path:
    """The folder that MXNet's package is in. Raises InputError where it is not installed."""
    spec = importlib.util.find_spec("mxnet")
    # Without an origin it is but a folder of that name, such as what is left of an MXNet that was uninstalled.
    if spec is None or spec.origin is None:
        raise _not_installed()
    return Path(spec.origin).parent.parent


def _not_installed() -> InputError:
    return InputError(
        f"MXNet is not installed for {sys.executable}: run `make setup`, then `source .venv/bin/activate`"
    )
