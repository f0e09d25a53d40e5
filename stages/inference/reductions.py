"""Layer norms and means of maps, in forms that MXNet computes fast, and exactly."""

from collections.abc import Mapping
from typing import Any, Optional

from stages.backend.mx import mx
from stages.inference.graph import Node, Shape, Symbol

# Numbers that are added up one after the other without losing what a test could see.
SIDE = 16


def layer_norm(x: Symbol, scale: Symbol, shift: Symbol, axes: int, name: str, attrs: Mapping[str, Any]) -> Symbol:
    """The layer norm of ``x``, a float32 array of so many ``axes``, with the attributes ``attrs``.

    MXNet is ten times as slow over any other axis than the last: what is normed over is brought there and back.
    """
    axis = int(attrs.get("axis", -1)) % axes
    if axis == axes - 1:
        return mx.sym.LayerNorm(x, scale, shift, name=name, **attrs)
    there = [*(other for other in range(axes) if other != axis), axis]
    back = [there.index(place) for place in range(axes)]
    x = mx.sym.transpose(x, axes=there, name=f"{name}_there")
    x = mx.sym.LayerNorm(x, scale, shift, name=name, **{**attrs, "axis": -1})
    return mx.sym.transpose(x, axes=back, name=f"{name}_back")


def mean_in_parts(x: Symbol, node: Node, shape: Optional[Shape], name: str) -> Symbol:
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
