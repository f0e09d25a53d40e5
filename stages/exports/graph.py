"""The whole classifier, body and head, as one graph, and MXNet's files of it."""

from pathlib import Path
from typing import Any, NamedTuple

from stages.backbones import zoo
from stages.backbones.catalogue import Backbone
from stages.backbones.families.family import Network
from stages.backbones.files import mxnet
from stages.backend.mx import mx
from stages.common.disk.files import write_text
from stages.inference.graph import trace
from stages.inference.rewrite import rewrite

SYMBOL, PARAMS = "model-symbol.json", "model-0000.params"
INPUT, OUTPUT = "data", "probabilities"


class Graph(NamedTuple):
    """An MXNet symbol with the input ``INPUT``, and NDArrays on the CPU for all its other variables, by name."""

    symbol: Any
    arrays: dict[str, Any]


def join(network: Network, backbone: Backbone, cut: str, head: Network) -> Graph:
    """The classifier that puts ``head`` (all its layers, see ``Head``) behind ``network`` cut at ``cut``.

    Input: float32 (n, 3, size, size) normalised pixels, for any n; output ``OUTPUT``: float32 (n, classes). What the
    body computes stays the same, with fewer and faster operators (see ``rewrite``).
    """
    # Rewritten, VGG's dense layer before the fc6 cut would take batches of one size only: it is left as it is.
    early = "conv" if cut == "fc6" else cut
    symbol, arrays = rewrite(*trace(zoo.body(network, early)), (1, 3, backbone.size, backbone.size))
    behind, behind_feature = (zoo.cut_layers(network, at)[1] for at in (early, cut))
    to_feature = behind[: len(behind) - len(behind_feature)]
    for layer in [*to_feature, *head]:
        if not isinstance(layer, mx.gluon.nn.Dropout):
            symbol = layer(symbol)
            arrays.update((name, parameter.data()) for name, parameter in layer.collect_params().items())
    return Graph(mx.sym.softmax(symbol, axis=-1, name=OUTPUT), arrays)


def save(graph: Graph, folder: Path) -> None:
    """Writes ``SYMBOL`` and ``PARAMS`` to ``folder``, for ``gluon.SymbolBlock.imports`` and ``mx.mod.Module``."""
    symbol, arrays = graph
    write_text(folder / SYMBOL, symbol.tojson(remove_amp_cast=False))
    named = {f"arg:{name}": arrays[name] for name in symbol.list_arguments() if name != INPUT}
    named.update((f"aux:{name}", arrays[name]) for name in symbol.list_auxiliary_states())
    mxnet.write(folder / PARAMS, {name: array.asnumpy() for name, array in named.items()})
