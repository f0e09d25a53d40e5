"""The head: what lies behind the cut, ending in a new dense layer with one output per class.

Layers of the backbone between the cut and its output (VGG's fc7, say) are kept; unless told otherwise they stay
frozen and the new layer alone learns.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from stages.backbones import zoo
from stages.backend.mx import mx

Features = NDArray[Any]  # (n, dim), of any float dtype
Logits = NDArray[np.float32]  # (n, classes)


class Head(NamedTuple):
    """layers: all of it, as one sequence, the new layer last. It is also two sequences of the same layers:

    frozen: (n, dim) features → (n, width); trained: (n, width) → (n, classes) logits.
    contexts: the devices that hold the parameters.
    """

    layers: zoo.Network
    frozen: zoo.Network
    trained: zoo.Network
    contexts: Sequence[Any]

    def blocks(self, features: Features, rows: int = 1024) -> Iterator[Logits]:
        """Logits without dropout, in blocks of so many ``rows``."""
        for start in range(0, len(features), rows):
            x = mx.nd.array(features[start : start + rows], ctx=self.contexts[0], dtype=np.float32)
            yield self.trained(self.frozen(x)).asnumpy()

    def logits(self, features: Features, rows: int = 1024) -> Logits:
        """All of :meth:`blocks` in one array."""
        return np.concatenate(list(self.blocks(features, rows)))


def build(
    network: zoo.Network,
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
    head = Head(_sequence(*kept, output), frozen, trained, contexts)
    if values is None:
        for layer in kept:
            layer.collect_params().reset_ctx(contexts)
    else:
        _fill(head, values)
    frozen.collect_params().setattr("grad_req", "null")
    for block in (frozen, trained):
        block.hybridize()
    return head


def _sequence(*layers: zoo.Layer) -> zoo.Network:
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
