"""What int8 needs to know of the values inside a body, measured once on images that are always the same."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbones.catalogue import Backbone
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.inference import pictures, quantize
from stages.inference.simplify import block, simplified
from stages.preprocessing import pixels

# Part of the name under which a calibration is kept: raise it when the same body would give another.
VERSION = 2

# Images at a time whose values are measured: VGG16 takes 3.4 GB with 4, 5 GB with 16.
BATCH = 4


@dataclass(frozen=True)
class Calibration:
    """What :func:`measure` found.

    ranges: by the name of an output inside the body, the lowest and the highest of its values.
    corrections: by the name of a layer's bias, what to add to it, so many numbers as the layer has filters.
    """

    ranges: dict[str, tuple[float, float]]
    corrections: dict[str, list[float]]

    def to_json(self) -> str:
        """The calibration as text, always the same for the same numbers."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """What :meth:`to_json` wrote. Raises ValueError for any other text."""
        try:
            given = json.loads(text)
            ranges = {name: (float(low), float(high)) for name, (low, high) in given["ranges"].items()}
            corrections = {name: [float(x) for x in values] for name, values in given["corrections"].items()}
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no calibration ({error!r})") from None
        return cls(ranges, corrections)


def measure(body: Any, backbone: Backbone) -> Calibration:
    """Measures what int8 needs to know of the values inside ``body``, for ``compile.compiled``.

    Depends on the body's parameters and the ``backbone``'s preprocessing, on nothing else.
    Raises InputError where the backbone is not to be computed in int8.
    """
    if not backbone.int8:
        raise InputError(
            f"featurize.precision: {backbone.name} cannot be computed in int8: set it to bfloat16 or float32"
        )
    inputs = pixels.normalise(pictures.images(backbone.size), backbone)
    shape = (BATCH, *inputs.shape[1:])
    symbol, parameters, layout = simplified(body, shape, "int8", "cpu")
    symbol = quantize.fuse(symbol)
    outputs, layers = quantize.measured(symbol, parameters)
    internals = symbol.get_internals()

    def value(name: str) -> Any:
        # MXNet does not return a variable such as "data" itself.
        return mx.sym.identity(internals[name])

    asked = [op(value(name), axis=None) for name in outputs for op in (mx.sym.min, mx.sym.max)]
    asked += [mx.sym.mean(value(layer.input), axis=(0, 2, 3)) for layer in layers]
    run = block(mx.sym.Group(asked), parameters, mx.cpu())
    batches = map(layout.laid, inputs.reshape(-1, *shape))
    answers = [[x.asnumpy() for x in run(mx.nd.array(batch))] for batch in batches]
    # What was asked, in that order, each with an answer for every batch.
    found: Iterator[NDArray[np.float64]] = (np.array(each, dtype=np.float64) for each in zip(*answers))
    ranges = {name: (float(next(found).min()), float(next(found).max())) for name in outputs}
    corrections = {}
    for layer in layers:
        added = quantize.correction(parameters[layer.weight].asnumpy(), next(found).mean(axis=0))
        corrections[layer.bias] = [float(f"{x:.4g}") for x in added]
    return Calibration(ranges, corrections)
