"""The head: what lies behind the cut, ending in a new dense layer with one output per class.

Layers of the backbone between the cut and its output (VGG's fc7, say) are kept; unless told otherwise they stay
frozen and the new layer alone learns.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.backbones import zoo
from stages.backbones.families.family import Network
from stages.backend.mx import mx
from stages.classifier.scores import Logits
from stages.features.stored.records import Features


class Head(NamedTuple):
    """layers: all of it, as one sequence, the new layer last. It is also two sequences of the same layers:

    frozen: (n, dim) features → (n, width); trained: (n, width) → (n, classes) logits.
    contexts: the devices that hold the parameters. random: whether ``frozen`` has dropout in training.
    plain: whether ``frozen`` leaves its input as it is, but for dropout. classes: outputs of the new layer.
    """

    layers: Network
    frozen: Network
    trained: Network
    contexts: Sequence[Any]
    random: bool
    plain: bool
    classes: int

    def width(self, features: Features) -> int:
        """How many numbers ``frozen`` makes of each of ``features``, of which there is at least one."""
        return int(self.frozen(self.array(features[:1])).shape[1])

    def array(self, features: Features) -> Any:
        """``features`` as a float32 array on the first device."""
        return mx.nd.array(features, ctx=self.contexts[0], dtype=np.float32)

    def values(self) -> dict[str, NDArray[np.float32]]:
        """Of all its parameters, in the order of the layers, by name (see ``zoo.named_parameters``)."""
        return {name: each.list_data()[0].asnumpy() for name, each in zoo.named_parameters(self.layers).items()}

    def renew(self, values: NDArray[np.float32]) -> None:
        """Makes ``values`` (classes, width + 1), the bias last, those of the new layer."""
        output = self.trained[-1]
        output.weight.shape = self.classes, values.shape[1] - 1
        output.initialize(mx.init.Zero(), ctx=self.contexts, force_reinit=True)
        # Some rows at a time: of a head with many classes there is no room for more copies.
        rows = block_rows(values.shape[1])
        for context in self.contexts:
            weight, bias = output.weight.data(context), output.bias.data(context)
            for start in range(0, self.classes, rows):
                weight[start : start + rows] = values[start : start + rows, :-1]
                bias[start : start + rows] = values[start : start + rows, -1]

    def blocks(self, features: Features) -> Iterator[Logits]:
        """Logits without dropout, in blocks of rows (see :func:`block_rows`)."""
        rows = block_rows(self.classes)
        for start in range(0, len(features), rows):
            yield self.trained(self.frozen(self.array(features[start : start + rows]))).asnumpy()

    def logits(self, features: Features) -> Logits:
        """All of :meth:`blocks` in one array."""
        return np.concatenate(list(self.blocks(features)))


def block_rows(outputs: int) -> int:
    """How many rows are computed together that have so many outputs each: such that they stay small beside a head."""
    return max(1, min(256, 2**19 // outputs))


def build(
    network: Network,
    cut: str,
    classes: int,
    dropout: float,
    trainable: Literal["last", "all"],
    contexts: Sequence[Any],
    values: Optional[Mapping[str, NDArray[Any]]] = None,
) -> Head:
    """The head of ``network`` cut at ``cut`` (see ``zoo.cut_layers``), on the devices ``contexts``.

    dropout: rate of every dropout in it; where the network has none, one is put before the new layer.
    trainable: "last", or "all" for the network's layers too.
    values: of all parameters, by their names in ``layers`` (see ``zoo.named_parameters``). Without them the layers
    keep the values they have in ``network``, and the new one is yet to be initialised.

    Raises ValueError where ``values`` are not those of such a head.
    """
    nn = mx.gluon.nn
    _, kept = zoo.cut_layers(network, cut)
    if not any(isinstance(layer, nn.Dropout) for layer in kept):
        kept = [*kept, nn.Dropout(0)]
    kept = [nn.Dropout(dropout) if isinstance(layer, nn.Dropout) else layer for layer in kept]
    output = nn.Dense(classes)
    if trainable == "last":
        frozen, trained = _sequence(*kept), _sequence(output)
    else:
        # An identity, because MXNet cannot compile a sequence without layers.
        frozen, trained = _sequence(nn.HybridLambda("identity")), _sequence(*kept, output)
    alone = trainable == "all" or all(isinstance(layer, nn.Dropout) for layer in kept)
    random = trainable == "last" and dropout > 0
    head = Head(_sequence(*kept, output), frozen, trained, contexts, random, plain=alone, classes=classes)
    if values is None:
        for layer in kept:
            layer.collect_params().reset_ctx(contexts)
    else:
        _fill(head, values)
    # The gradient of the last layer alone is taken without MXNet.
    still = head.layers if trainable == "last" else frozen
    still.collect_params().setattr("grad_req", "null")
    for block in (frozen, trained):
        block.hybridize()
    return head


def _sequence(*layers: zoo.Layer) -> Network:
    sequence = mx.gluon.nn.HybridSequential()
    sequence.add(*layers)
    return sequence


def _fill(head: Head, values: Mapping[str, NDArray[Any]]) -> None:
    parameters = zoo.named_parameters(head.layers)
    try:
        arrays = {parameters[name].name: mx.nd.array(value) for name, value in values.items()}
        head.layers.collect_params().load_dict(arrays, ctx=list(head.contexts))
    except (KeyError, AssertionError) as error:
        # MXNet asserts that every parameter is there, and its shape.
        raise ValueError("these are not the parameters of this head") from error
