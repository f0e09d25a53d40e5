"""The networks of MXNet's own model zoo, and its weights."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.backbones.families import efficientnet_lite
from stages.backbones.families.family import Family, Network, layers_of, torch_names
from stages.backend.mx import mx
from stages.common.errors import InputError

TORCHVISION_ALEXNET = [*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6))]
RESNET_ENDS = {"features.0": "conv1", "features.1": "bn1", "output": "fc"}
RESNET_BODY = {"body.0": "conv1", "body.1": "bn1", "body.3": "conv2", "body.4": "bn2"}
VGG_DENSE = (
    ["classifier.0", "classifier.3", "classifier.6"],  # torchvision
    ["pre_logits.fc1", "pre_logits.fc2", "head.fc"],  # timm
)


def network(name: str) -> Network:
    """The zoo's network, with its 1000 ImageNet outputs."""
    return mx.gluon.model_zoo.vision.get_model(name)


def _alexnet(layers: list[str]) -> list[list[str]]:
    return [TORCHVISION_ALEXNET]


def _vgg(layers: list[str]) -> list[list[str]]:
    return [layers[: -len(dense)] + dense for dense in VGG_DENSE]


def _resnet(layers: list[str]) -> list[list[str]]:
    return [[_resnet_layer(layer) for layer in layers]]


def _resnet_layer(layer: str) -> str:
    if layer in RESNET_ENDS:
        return RESNET_ENDS[layer]
    # features.4.0.body.3 → layer1.0.conv2, features.5.0.downsample.1 → layer2.0.downsample.1
    _, stage, unit, part = layer.split(".", 3)
    return f"layer{int(stage) - 3}.{unit}.{RESNET_BODY.get(part, part)}"


# What PyTorch's files call the layers, in Gluon's order, where its network is the same one. The deeper ResNets are
# not: Gluon's put the stride on another convolution, and have biases.
TORCH: dict[str, Callable[[list[str]], list[list[str]]]] = {
    "alexnet": _alexnet,
    "resnet18_v1": _resnet,
    "resnet34_v1": _resnet,
    **{f"vgg{depth}{norm}": _vgg for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
}


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    known = TORCH.get(name)
    return [torch_names(parameters, layers) for layers in known(layers_of(parameters))] if known else []


def _published(name: str) -> tuple[Path, str]:
    """From MXNet's folder (``$MXNET_HOME/models``) or downloaded there; SHA-1 checked."""
    try:
        path = Path(mx.gluon.model_zoo.model_store.get_model_file(name))
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the published weights of {name} cannot be had ({_first_line(error)}): the model zoo may be gone; "
            f"without it there is {', '.join(efficientnet_lite.installed()) or 'no backbone here'}; or bring "
            f"{_files(name)} with backbone.weights: file, backbone.path: <your file>; or set MXNET_GLUON_REPO to a "
            "mirror"
        ) from None
    return path, f"Gluon model zoo {path.name}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__


def _files(name: str) -> str:
    """Which files of weights can be read, in words."""
    own = f"{name}-{mx.gluon.model_zoo.model_store.short_hash(name)}.params"
    return f"{own} or torchvision's {name.replace('_v1', '')}-*.pth" if name in TORCH else own


FAMILY = Family(network, _namings, _published)
