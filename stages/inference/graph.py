"""A network as a graph: how it is got from Gluon, its nodes, and what they say about it."""

import ast
import json
import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, Optional

from numpy.typing import NDArray

from stages.backend.mx import mx

Symbol = Any  # an mx.sym.Symbol; MXNet has no types
Shape = tuple[int, ...]

# Operators that hand their input on unchanged when nothing is trained.
NO_OPS = ("Dropout", "_copy", "BlockGrad")

# Operators that make of a rotated map the rotated result; of poolings only the global one.
ROTATABLE = (
    *("null", "Activation", "BatchNorm", "Convolution", "Pad", "broadcast_mul", "clip"),
    *("elemwise_add", "elemwise_mul", *NO_OPS),
)


@dataclass(eq=False)
class Node:
    """An operator of the graph, or with ``op`` "null" a variable.

    attrs: as they are written in the symbol. inputs: (the node's index, which of its outputs). shape: of its output,
    or None where it has several. users: the nodes that read it.
    """

    op: str
    name: str
    attrs: dict[str, str]
    inputs: list[tuple[int, int]]
    shape: Optional[Shape]
    users: list["Node"] = field(default_factory=list)

    def attr(self, key: str, default: Any) -> Any:
        """The value of the attribute ``key``, if that is written as in Python: True, 3, (1, 1); not as a word."""
        value = self.attrs.get(key)
        return default if value is None else ast.literal_eval(value)


def trace(body: Any) -> tuple[Symbol, dict[str, NDArray[Any]]]:
    """A Gluon body as a graph with the input "data", and its parameters as arrays by name."""
    return body(mx.sym.var("data")), {name: p.data().asnumpy() for name, p in body.collect_params().items()}


def read(symbol: Symbol, shape: Shape) -> list[Node]:
    """The nodes of ``symbol`` in topological order; the last one is the output.

    shape: of "data".
    """
    described = json.loads(symbol.tojson())
    internals = symbol.get_internals()
    # Several nodes may have the same name.
    shapes: dict[str, deque[Shape]] = defaultdict(deque)
    for output, its in zip(internals.list_outputs(), internals.infer_shape(data=shape)[1]):
        shapes[output].append(its)
    nodes = []
    for each in described["nodes"]:
        inputs = [(source, output) for source, output, _ in each["inputs"]]
        found = shapes[each["name"] if each["op"] == "null" else f"{each['name']}_output"]
        its = found.popleft() if found else None
        nodes.append(Node(each["op"], each["name"], each.get("attrs", {}), inputs, its))
    for node in nodes:
        for source, _ in node.inputs:
            nodes[source].users.append(node)
    return nodes[: described["heads"][0][0] + 1]


def gains_by_rotation(symbol: Symbol, shape: Shape) -> bool:
    """Whether ``symbol`` pads its maps at the end, as TensorFlow does, and may get its images rotated by 180°.

    A convolution of stride 2 over a map of even side with one more row of padding at the begin than at the end needs
    no extra row in its kernel: equal padding on both sides does it, as the window that would read the last row is
    left out. With more at the end it does, so such networks are turned upside down, images and kernels alike.
    """
    nodes, at_end = read(symbol, shape), False
    for node in nodes:
        if node.op == "Pad":
            width = node.attr("pad_width", ())
            at_end |= width[4::2] < width[5::2]
        elif node.op == "Flatten":
            mapped = nodes[node.inputs[0][0]].shape
            if mapped is None or math.prod(mapped[2:]) != 1:
                return False
        elif not (node.op in ROTATABLE or (node.op == "Pooling" and node.attr("global_pool", False))):
            return False
    return at_end
