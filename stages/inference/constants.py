"""What a graph computes of its parameters alone, computed once."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from stages.backend.mx import mx
from stages.inference.graph import Node, Symbol

Arrays = Mapping[str, NDArray[Any]]


def folded(symbol: Symbol, nodes: Sequence[Node], arrays: Arrays) -> Arrays:
    """Makes variables of those ``nodes`` of ``symbol`` that depend on parameters alone, and returns all arrays by name.

    Changes the nodes. What only such nodes read is given no array.
    """
    known: dict[int, bool] = {}
    for index, node in enumerate(nodes):
        inputs = (known[source] for source, _ in node.inputs)
        known[index] = node.name != "data" if node.op == "null" else all(inputs)
    read = {source for index, node in enumerate(nodes) if not known[index] for source, _ in node.inputs}
    ends = [nodes[index] for index in sorted(read) if known[index] and nodes[index].op != "null"]
    if not ends:
        return arrays
    internals = symbol.get_internals()
    asked = mx.sym.Group([internals[f"{node.name}_output"] for node in ends])
    values = asked.eval(ctx=mx.cpu(), **{name: mx.nd.array(arrays[name]) for name in asked.list_arguments()})
    for index, node in enumerate(nodes):
        if known[index]:
            node.op, node.inputs = "null", []
    return {**arrays, **{node.name: value.asnumpy() for node, value in zip(ends, values)}}
