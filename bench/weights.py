"""Weights for a backbone whose own are not at hand."""

from pathlib import Path

import numpy as np

from stages.backbones import catalogue, zoo
from stages.backend.mx import mx
from stages.checkpoints import matching


def save_random(name: str, path: Path) -> Path:
    """Writes a Gluon parameter file of the backbone ``name``, random but such that pictures differ in features.

    He-normal times 1.3 (He et al. 2015, eq. 10): with less, what is left of a picture behind many layers is too small
    for float16. Batch norms and biases are as before training. Returns ``path``.
    """
    rng, arrays = np.random.default_rng(7), {}
    for key, shape in matching.parameter_shapes(zoo.build(name), catalogue.find(name).size).items():
        if len(shape) > 1:
            spread = np.float32(1.3 * np.sqrt(2 / np.prod(shape[1:])))
            arrays[key] = mx.nd.array(rng.standard_normal(shape, np.float32) * spread)
        else:
            arrays[key] = mx.nd.ones(shape) if key.endswith(("gamma", "running_var")) else mx.nd.zeros(shape)
    mx.nd.save(str(path), arrays)
    return path
