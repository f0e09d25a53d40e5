"""Means over large maps, as exact as those over small ones."""

from typing import Optional

from stages.backend.mx import mx
from stages.inference.graph import Node, Shape, Symbol

# Sides of maps whose numbers can be added up one after the other.
SIDE = 16


def in_parts(x: Symbol, node: Node, shape: Optional[Shape], name: str) -> Symbol:
    """``x``, or where ``node`` is the mean over large maps, means of equal parts of them: their mean is the same.

    oneDNN adds one number after the other: over 112×112 the sum is off by a hundred times what one addition rounds.
    shape: of ``x``.
    """
    if node.attrs.get("pool_type") != "avg" or not node.attr("global_pool", False) or shape is None:
        return x
    parts = tuple(max(part for part in range(1, SIDE + 1) if side % part == 0) for side in shape[2:])
    if max(shape[2:]) <= SIDE or max(parts) == 1:
        return x
    return mx.sym.Pooling(x, pool_type="avg", kernel=parts, stride=parts, name=f"{name}_parts")
