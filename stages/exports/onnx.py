"""A graph as an ONNX file."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stages.backend.mx import mx
from stages.exports.graph import INPUT, Graph

# MXNet's translations are written for this version of the operators, and label it as the newest that onnx knows.
OPSET = 13
# The first IR version for that opset: what every reader of the opset can read.
IR_VERSION = 7


def write(graph: Graph, size: int, path: Path) -> None:
    """Writes ``graph`` to ``path``; its input is (n, 3, size, size) for any n. Needs the package onnx."""
    import onnx

    arrays = {**graph.arrays, **_fixed_scales(graph)}
    shape, free = (1, 3, size, size), ("n", 3, size, size)
    with warnings.catch_warnings(), _checked_as(OPSET):
        warnings.simplefilter("ignore")
        mx.onnx.export_model(
            graph.symbol, arrays, [shape], np.float32, str(path), dynamic=True, dynamic_input_shapes=[free]
        )
    model = onnx.load(path)
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    # MXNet lists the parameters as inputs too, and some that nothing reads.
    inputs = [value for value in model.graph.input if value.name == INPUT]
    used = {name for node in model.graph.node for name in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
    for values, kept in ((model.graph.input, inputs), (model.graph.initializer, tensors)):
        del values[:]
        values.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@contextmanager
def _checked_as(opset: int) -> Iterator[None]:
    """MXNet has its graph checked for the newest version of the operators, in which layer norm's parts are others."""
    import onnx

    context = onnx.checker.DEFAULT_CONTEXT
    newest = context.opset_imports
    context.opset_imports = {"": opset}
    try:
        yield
    finally:
        context.opset_imports = newest


def _fixed_scales(graph: Graph) -> dict[str, Any]:
    """Ones for the scales of batch norms that are said to have none: MXNet passes them over, ONNX would use them."""
    nodes = json.loads(graph.symbol.tojson())["nodes"]
    norms = [node for node in nodes if node["op"] == "BatchNorm" and node["attrs"].get("fix_gamma", "True") == "True"]
    names = [nodes[node["inputs"][1][0]]["name"] for node in norms]
    return {name: mx.nd.ones_like(graph.arrays[name]) for name in names}
