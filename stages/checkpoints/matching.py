"""Named arrays out of a weights file, matched with the parameters of a backbone and checked one by one."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from stages.backbones import catalogue, zoo
from stages.backbones.families import table
from stages.backbones.families.family import Network
from stages.backbones.files.binary import Tensors
from stages.backend.mx import mx
from stages.common.errors import InputError

ANOTHER = "set backbone.name to the network that these weights are of"

Shape = tuple[int, ...]


def for_network(name: str, tensors: Tensors, path: Path) -> Tensors:
    """The ``tensors`` of the file at ``path`` for the backbone ``name``: {structured Gluon name: float32 array}.

    All parameters of ``zoo.build(name)``, in its order and in its shapes, C-contiguous.
    Raises InputError naming the first tensor that is missing, superfluous, of another shape, not of floating
    point, or not finite; and the backbones whose file this is, if it is another's.
    """
    try:
        return _matched(name, tensors, path)
    except _Mismatch as error:
        others = [other for other in catalogue.BACKBONES if other != name and _fits(other, tensors)]
        if not others:
            raise
        one = " or ".join(f"`{other}`" for other in others)
        raise InputError(f"{error.what}; these look like {one}: set backbone.name to it") from None


class _Mismatch(InputError):
    """Tensors that are not those of the network; what: without what to do about it."""

    def __init__(self, what: str, remedy: str = f"; {ANOTHER}") -> None:
        super().__init__(what + remedy)
        self.what = what


def _matched(name: str, tensors: Tensors, path: Path) -> Tensors:
    network, tensors = zoo.build(name), table.of(name).adapted(name, tensors)
    shapes = parameter_shapes(network, catalogue.find(name).size)
    namings = _namings(name, network, tensors)
    chosen = max(namings, key=lambda naming: sum(theirs in tensors for theirs in naming))
    if tensors.keys().isdisjoint(chosen):
        raise _Mismatch(
            f"{path} names its tensors in a way that is not known for {name} (its first is {next(iter(tensors))!r}, "
            f"in Gluon that is {next(iter(shapes))!r})",
            ": give weights that were saved for this very network",
        )
    spare = dict(tensors)
    fitted = {}
    for (ours, shape), theirs in zip(shapes.items(), chosen):
        fitted[ours] = _fitted(spare.pop(theirs, None), theirs, shape, name, path)
    left = [theirs for theirs in spare if not _counts_steps(theirs)]
    if left:
        raise _Mismatch(f"{path} also holds {left[0]!r}, which {name} does not have")
    return fitted


def _counts_steps(theirs: str) -> bool:
    # Batch norm's count of training steps says nothing about its output.
    return theirs.rpartition(".")[2] == "num_batches_tracked"


def _fits(name: str, tensors: Tensors) -> bool:
    """Whether the ``tensors`` of a file have the names and the shapes of the backbone ``name``."""
    adapted = table.of(name).adapted(name, tensors)
    names = {theirs for theirs in adapted if not _counts_steps(theirs)}
    # The names first, as shapes take longer to find out.
    if not any(names == set(naming) for naming in _namings(name, zoo.build(name), adapted)):
        return False
    try:
        _matched(name, tensors, Path())
    except InputError:
        return False
    return True


def parameter_shapes(network: Network, size: int) -> dict[str, Shape]:
    """{structured name: shape} of a Gluon network for (n, 3, size, size) input, in its order; nothing is allocated.

    A network as built does not know its input channels yet.
    """
    symbol = network(mx.sym.var("data"))
    arguments, _, states = symbol.infer_shape(data=(1, 3, size, size))
    shapes = dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arguments + states))
    return {key: shapes[parameter.name] for key, parameter in zoo.named_parameters(network).items()}


def _namings(name: str, network: Network, tensors: Tensors) -> Iterator[list[str]]:
    """The ways in which a file may name the parameters of ``network``: lists of names in the network's order."""
    parameters = zoo.named_parameters(network)
    yield list(parameters)
    # Gluon before 1.0, and the zoo's oldest files: vgg0_conv0_weight, or conv0_weight.
    common = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*tensors))
    prefix = "".join(letters[0] for letters in common).rpartition("_")
    yield ["".join(prefix[:2]) + parameter.name.removeprefix(network.prefix) for parameter in parameters.values()]
    yield from table.of(name).namings(name, list(parameters))


def _fitted(array: Optional[NDArray[Any]], theirs: str, shape: Shape, name: str, path: Path) -> NDArray[np.float32]:
    if array is None:
        raise _Mismatch(f"{path} has no {theirs}, {name} needs it as {shape}")
    if len(shape) == 2 and array.ndim == 4 and array.shape[0] == shape[0] and array.size == math.prod(shape):
        # A dense layer written as the convolution over its whole input, as timm's VGG has them.
        array = array.reshape(shape)
    if array.shape != shape:
        raise _Mismatch(f"{path}: {theirs} is {array.shape}, {name} needs {shape}")
    if array.dtype.kind != "f":
        raise InputError(f"{path}: {theirs} is {array.dtype}, {name} needs floating point")
    with np.errstate(over="ignore"):
        array = np.require(array, np.float32, ["C", "ALIGNED"])
    # The extremes show NaN and infinity without an array of answers.
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise InputError(f"{path}: {theirs} holds values that are not finite (NaN or infinity): it cannot be used")
    return array
