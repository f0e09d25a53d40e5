"""What a family of networks is: a module that knows one architecture in its sizes, without loading MXNet."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from stages.backbones.files.binary import Tensors
from stages.common.errors import InputError

Network = Any  # an mx.gluon.HybridBlock; MXNet has no types

# Where PyTorch's suffix of a parameter is not Gluon's.
TORCH_SUFFIXES = {"gamma": "weight", "beta": "bias"}


def unchanged(name: str, tensors: Tensors) -> Tensors:
    """The ``tensors`` of a file that holds the network's parameters and nothing else."""
    return tensors


class Family(NamedTuple):
    """network(name): the whole network of the backbone ``name``, its parameters without values.

    It has the child ``features``, a sequence that ends in the deepest feature, and behind it ``output``, a dense layer,
    where the weights people have include a classifier.

    namings(name, parameters): what other frameworks' files call the network's parameters, of which these are Gluon's
    structured names in the network's order: one list in that order for each kind of file that is known.
    published(name): the file with the published weights, and where it is from, in words; raises InputError where it
    cannot be had, saying what to do. adapted(name, tensors): those of a file, as the network has them.
    """

    network: Callable[[str], Network]
    namings: Callable[[str, Sequence[str]], list[list[str]]]
    published: Callable[[str], tuple[Path, str]]
    adapted: Callable[[str, Tensors], Tensors] = unchanged


def layers_of(parameters: Sequence[str]) -> list[str]:
    """The layers that have the ``parameters``, in their order."""
    return list(dict.fromkeys(parameter.rpartition(".")[0] for parameter in parameters))


def torch_names(parameters: Sequence[str], renamed: Sequence[str]) -> list[str]:
    """What PyTorch calls the ``parameters``, if it calls their layers ``renamed``, in the order of their layers."""
    theirs = dict(zip(layers_of(parameters), renamed))
    pairs = (parameter.rpartition(".")[::2] for parameter in parameters)
    return [f"{theirs[layer]}.{TORCH_SUFFIXES.get(suffix, suffix)}" for layer, suffix in pairs]


def hub(repository: str, file: str = "model.safetensors") -> str:
    """The command that gets ``file`` of a ``repository`` at the Hugging Face hub into the folder one is in."""
    return f"hf download {repository} {file} --local-dir ."


def bring(name: str, command: str) -> NoReturn:
    """For a family whose weights the user gets. command: what gets the file of the backbone ``name``."""
    raise InputError(
        f"the weights of {name} are a file that you bring: `{command}`, then backbone.weights: file and "
        "backbone.path: <that file> (docs/backbones.md)"
    )
