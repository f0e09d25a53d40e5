"""The head: what lies behind the cut, ending in a new dense layer with one output per class.

Layers of the backbone between the cut and its output (VGG's fc7, say) are kept, frozen; the last layer learns.
"""

from typing import NamedTuple

import numpy as np

from stages import networks
from stages.mx import mx
from stages.paths import MODEL, read_json, replacing, write_json

nn = mx.gluon.nn


class Head(NamedTuple):
    """frozen: (n, dim) features → (n, width), with the dropouts; output: (n, width) → (n, classes) logits."""

    frozen: mx.gluon.HybridBlock
    output: mx.gluon.HybridBlock

    def logits(self, features, batch_size=1024):
        """float32 NDArray (n, dim) → numpy float32 (n, classes), without dropout, ``batch_size`` rows at a time."""
        batches = (features[start : start + batch_size] for start in range(0, len(features), batch_size))
        return np.concatenate([self.output(self.frozen(batch)).asnumpy() for batch in batches])


def build(backbone, cut, classes, dropout, context):
    """The head of ``backbone`` cut at ``cut``, its last layer not yet initialised.

    dropout: rate of every dropout in it; where the backbone has none, one is put before the last layer.
    """
    _, layers = networks.cut_layers(networks.load(backbone), cut)
    if not any(isinstance(layer, nn.Dropout) for layer in layers):
        layers = [*layers, nn.Dropout(0)]
    frozen = nn.HybridSequential()
    for layer in layers:
        frozen.add(nn.Dropout(dropout) if isinstance(layer, nn.Dropout) else layer)
    frozen.collect_params().reset_ctx(context)
    frozen.collect_params().setattr("grad_req", "null")
    output = nn.Dense(classes)
    for block in (frozen, output):
        block.hybridize()
    return Head(frozen, output)


def save(head, about):
    """Writes the trained layer to ``data/model``, and ``about``, a dict with all that :func:`load` needs."""
    with replacing(MODEL, folder=True) as folder:
        head.output.save_parameters(str(folder / "head.params"))
        write_json(folder / "head.json", about)


def load(context):
    """The trained head from ``data/model`` and what is known about it: returns (Head, dict)."""
    about = read_json(MODEL / "head.json")
    head = build(about["backbone"], about["cut"], len(about["classes"]), 0.0, context)
    head.output.load_parameters(str(MODEL / "head.params"), ctx=context)
    return head, about
