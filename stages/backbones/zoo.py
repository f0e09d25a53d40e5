"""The Gluon networks behind the backbones' names, and how one is cut into a frozen body and a head.

The cut is made at the deepest point that training cannot change: everything before the first dropout is
frozen and deterministic, so its output can be stored once. ``conv`` cuts earlier, after the convolutions.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.backbones.families import table
from stages.backbones.families.family import Network
from stages.backbones.files import mxnet
from stages.backbones.files.binary import Tensors
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.common.settings.layout import WEIGHTS, WEIGHTS_FILE

Layer = Any  # an mx.gluon.HybridBlock inside a network; MXNet has no types


def build(name: str) -> Network:
    """The whole network of the backbone ``name`` (see ``Family.network``); its parameters hold no values yet."""
    return table.of(name).network(name)


def load(name: str, folder: Path = WEIGHTS, *, sha256: str) -> Network:
    """The network of the backbone ``name`` with the weights that the ``weights`` stage left in ``folder``, on the CPU.

    sha256: of their file, as ``weights.json`` and all that was made with them record it. Raises InputError where the
    file is missing or has another one.
    """
    path = folder / WEIGHTS_FILE.name
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro`")
    return loaded(name, path.read_bytes(), path, sha256=sha256)


def loaded(name: str, data: bytes, path: Path = WEIGHTS_FILE, *, sha256: str) -> Network:
    """The same from the ``data`` of the file, where it is not at hand; its ``path`` is for messages."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path} is damaged or was replaced (its SHA-256 is another one): run `dvc repro -f weights`")
    return filled(name, mxnet.read(data))


def filled(name: str, tensors: Tensors) -> Network:
    """The network of the backbone ``name`` with the values ``tensors``, by structured name, on the CPU."""
    network = build(name)
    values = {parameter.name: mx.nd.array(tensors[key]) for key, parameter in named_parameters(network).items()}
    network.collect_params().load_dict(values, ctx=mx.cpu())
    return network


def named_parameters(network: Network) -> dict[str, Any]:
    """The Gluon Parameters of ``network`` by structured name, as ``save_parameters`` names them and in its order.

    A name is the way to the parameter: attributes, and for the children of a sequence their index, as in
    "features.0.weight". Unlike ``parameter.name`` it does not depend on how many networks were built before.
    """
    return dict(_named_parameters(network, ""))


def _named_parameters(block: Layer, prefix: str) -> Iterator[tuple[str, Any]]:
    attributes = list(vars(block).items())
    for name, value in attributes:
        if isinstance(value, mx.gluon.Parameter):
            yield prefix + name, value
    sequence = isinstance(block, (mx.gluon.nn.Sequential, mx.gluon.nn.HybridSequential))
    for name, value in ((str(i), child) for i, child in enumerate(block)) if sequence else attributes:
        if isinstance(value, mx.gluon.Block):
            yield from _named_parameters(value, f"{prefix}{name}.")


def cut_layers(network: Network, cut: str) -> tuple[list[Layer], list[Layer]]:
    """Splits ``network.features`` at ``cut``: returns the layers (of the frozen body, between it and the output).

    conv: before the first dense layer. fc6, pool: before the first dropout (or at the end).
    """
    layers = list(network.features)
    kind = mx.gluon.nn.Dense if cut == "conv" else mx.gluon.nn.Dropout
    at = next((i for i, layer in enumerate(layers) if isinstance(layer, kind)), len(layers))
    return layers[:at], layers[at:]


def body(network: Network, cut: str) -> Layer:
    """The frozen part, an ``nn.HybridSequential`` that shares the parameters of ``network``.

    It turns (n, 3, size, size) float32 normalised pixels into (n, dim) float32 features. Maps that reach its end are
    averaged over their positions ("pool"), or flattened ("conv").
    """
    nn = mx.gluon.nn
    frozen, _ = cut_layers(network, cut)
    sequence = nn.HybridSequential()
    sequence.add(*frozen)
    if cut != "conv" and not any(isinstance(layer, (nn.Dense, nn.Flatten)) for layer in frozen):
        sequence.add(nn.GlobalAvgPool2D())
    sequence.add(nn.Flatten())
    return sequence
