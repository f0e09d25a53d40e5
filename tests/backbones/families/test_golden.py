"""Features of the families that PyTorch's libraries have too, against numbers that those computed.

The weights are drawn from the names that the libraries' files give them; `python -m bench.parity --golden` let the
libraries compute with the same ones. So names, adaptation, network, pixels and compiled graph are all in it.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from bench import parity
from bench.drawn import drawn
from stages.backbones import catalogue, zoo
from stages.backbones.families import convnext, table
from stages.checkpoints import matching
from stages.inference.compile import compiled
from stages.preprocessing import pixels
from tests.backbones.families import torch_files

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
# Of the largest feature.
ERROR = 1e-4


def file_of(name, library):
    """The tensors of the file that ``library`` saves of ``name``, drawn."""
    if catalogue.find(name).family in ("clip", "vit"):
        return {its: drawn(name, its, shape) for its, shape in torch_files.shapes(name, library).items()}
    network = zoo.build(name)
    shapes = matching.parameter_shapes(network, catalogue.find(name).size)
    theirs = table.of(name).namings(name, list(shapes))[0 if library == "timm" else -1]
    tensors = {its: drawn(name, its, shape) for its, shape in zip(theirs, shapes.values())}
    if name.startswith("convnext"):
        (files,) = (files for files in convnext.FILES if files.end[1] + ".weight" in tensors)
        for widening, last, scale in files.scaled(name):
            for layer in (widening, last):
                tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"][:, :, 0, 0]
            shape = tensors[f"{last}.bias"].shape
            tensors[scale] = drawn(name, scale, shape if library == "timm" else (*shape, 1, 1))
    if name == "mobilenet_v3_large":
        tensors["classifier.0.weight"] = tensors["classifier.0.weight"][:, :, 0, 0]
    return tensors


@pytest.mark.parametrize("key", GOLDEN)
def test_features_are_those_of_the_library(key):
    name, library = key.split()
    backbone = catalogue.find(name)
    network = zoo.filled(name, matching.for_network(name, file_of(name, library), Path("weights")))
    pictures = parity.photos()[: len(GOLDEN[key])]
    batch = pixels.normalise(np.stack([pixels.pixels(picture, backbone, "crop") for picture in pictures]), backbone)
    found = compiled(zoo.body(network, "pool"), batch.shape)(batch).asnumpy()
    largest = np.abs(found).max()
    for feature, expected in zip(found, GOLDEN[key]):
        first = np.array(expected["first"])
        assert np.abs(feature[: len(first)] - first).max() <= ERROR * largest
        assert np.linalg.norm(feature) == pytest.approx(expected["length"], rel=ERROR)
    # The features say something about the picture.
    assert np.abs(found[0] - found[1]).max() > 10 * ERROR * largest


def test_every_family_is_here():
    assert {catalogue.find(key.split()[0]).family for key in GOLDEN} >= {
        "clip", "convnext", "efficientnet", "mobilenetv3", "resnet", "vit",
    }  # fmt: skip
