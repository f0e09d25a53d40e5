"""The head: what lies behind the cut, ending in a new dense layer with one output per class.

Layers of the backbone between the cut and its output (VGG's fc7, say) are kept; unless told otherwise they stay
frozen and the new layer alone learns.
"""

from typing import NamedTuple

import numpy as np

from stages.backbones import zoo as networks
from stages.backend.mx import mx
from stages.common.files import read_json, replacing, write_json
from stages.common.layout import MODEL

nn = mx.gluon.nn


class Head(NamedTuple):
    """frozen: (n, dim) features → (n, width); trained: (n, width) → (n, classes) logits, the new layer last.

    contexts: the devices that hold the parameters.
    """

    frozen: mx.gluon.HybridBlock
    trained: mx.gluon.HybridBlock
    contexts: list

    def blocks(self, features, rows=1024):
        """features (n, dim) of any float dtype → float32 logits (rows, classes), without dropout, block by block."""
        for start in range(0, len(features), rows):
            x = mx.nd.array(features[start : start + rows], ctx=self.contexts[0], dtype=np.float32)
            yield self.trained(self.frozen(x)).asnumpy()

    def logits(self, features, rows=1024):
        """All of :meth:`blocks` in one array (n, classes)."""
        return np.concatenate(list(self.blocks(features, rows)))


def build(backbone, cut, classes, dropout, trainable, contexts):
    """The head of ``backbone`` cut at ``cut``, on the devices ``contexts``; its new layer is not yet initialised.

    dropout: rate of every dropout in it; where the backbone has none, one is put before the new layer.
    trainable: "last", or "all" for the backbone's layers too.
    """
    _, layers = networks.cut_layers(networks.load(backbone), cut)
    if not any(isinstance(layer, nn.Dropout) for layer in layers):
        layers = [*layers, nn.Dropout(0)]
    layers = [nn.Dropout(dropout) if isinstance(layer, nn.Dropout) else layer for layer in layers]
    # An identity, because MXNet cannot compile a network without layers.
    frozen, trained = nn.HybridSequential(), nn.HybridSequential()
    frozen.add(*(layers if trainable == "last" else [nn.HybridLambda("identity")]))
    trained.add(*([] if trainable == "last" else layers), nn.Dense(classes))
    for layer in layers:
        layer.collect_params().reset_ctx(contexts)
    frozen.collect_params().setattr("grad_req", "null")
    for block in (frozen, trained):
        block.hybridize()
    return Head(frozen, trained, contexts)


def save(head, about):
    """Writes what was trained to ``data/model``, and ``about``, a dict with all that :func:`load` needs."""
    with replacing(MODEL, folder=True) as folder:
        head.trained.save_parameters(str(folder / "head.params"))
        write_json(folder / "head.json", about)


def load(context):
    """The trained head from ``data/model`` and what is known about it: returns (Head, dict)."""
    about = read_json(MODEL / "head.json")
    head = build(about["backbone"], about["cut"], len(about["classes"]), 0.0, about["trainable"], [context])
    head.trained.load_parameters(str(MODEL / "head.params"), ctx=context)
    return head, about
