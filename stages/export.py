"""Writes the trained classifier, body and head in one graph, for use without headstart.

``python -m stages.export`` leaves in ``data/export``: the graph as MXNet symbol and parameters and as ONNX, the
labels, and a model card that tells how to use them.
"""

import argparse
import importlib.util
import json
import os
import warnings
from pathlib import Path
from string import Template

import numpy as np

from stages.backbones import zoo as networks
from stages.backbones.catalogue import BACKBONES
from stages.backend.mx import mx
from stages.classifier import trained as classifier
from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import read_json, replacing, write_text
from stages.common.layout import METRICS, WEIGHTS
from stages.dataset import lists
from stages.inference import compile as inference
from stages.inference.rewrite import rewrite

FOLDER = Path("data/export")
SYMBOL, PARAMS, ONNX, LABELS, CARD = FILES = (
    "model-symbol.json",
    "model-0000.params",
    "model.onnx",
    "labels.txt",
    "README.md",
)
INPUT, OUTPUT = "data", "probabilities"

# MXNet's translations are written for this version of the operators, and label it as the newest that onnx knows.
OPSET = 13
# The first IR version for that opset: what every reader of the opset can read.
IR_VERSION = 7


def main(arguments=None):
    """The command ``python -m stages.export``."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.export",
        description="Writes the trained classifier as MXNet symbol and parameters and as ONNX, with a model card.",
    )
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER", help=f"where to (default: {FOLDER})")
    output = parser.parse_args(arguments).output
    given = params.load()
    _check_place(output)
    if importlib.util.find_spec("onnx") is None:
        raise InputError("writing ONNX needs the package onnx: `pip install -r requirements-export.txt`")

    recipe, network, about = classifier.load(mx.cpu())
    size = BACKBONES[recipe.backbone].size
    symbol, arrays = graph(recipe, network)
    with replacing(output, folder=True) as folder:
        write_mxnet(symbol, arrays, folder)
        write_onnx(symbol, arrays, size, folder / ONNX)
        write_text(folder / LABELS, "".join(f"{name}\n" for name in about["classes"]))
        write_text(folder / CARD, card(recipe, about, given.dataset))
    for name in FILES:
        print(f"{output / name}: {(output / name).stat().st_size:,} bytes")


def _check_place(output):
    # The folder is replaced as a whole.
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder to write to")
    others = sorted(set(os.listdir(output)) - set(FILES)) if output.exists() else []
    if others:
        raise InputError(f"{output} holds {others[0]}, which is no part of an export: name an empty or a new folder")


def graph(recipe, network):
    """The classifier as a graph: (symbol, parameters by name as NDArrays on the CPU).

    recipe: of the features it was trained on; network: the head.Head.

    Input "data": float32 (n, 3, size, size) normalised pixels, for any n; output "probabilities": float32
    (n, classes).
    """
    backbone, size = networks.load(recipe.backbone), BACKBONES[recipe.backbone].size
    # Compiled, VGG's dense layer before the fc6 cut would take batches of one size only: it is left as it is.
    cut = "conv" if recipe.cut == "fc6" else recipe.cut
    symbol, arrays = rewrite(*inference.trace(networks.Body(backbone, cut)), (1, 3, size, size))
    behind, behind_feature = (networks.cut_layers(backbone, at)[1] for at in (cut, recipe.cut))
    to_feature = behind[: len(behind) - len(behind_feature)]
    for layer in [*to_feature, *network.frozen, *network.trained]:
        if not isinstance(layer, mx.gluon.nn.Dropout):
            symbol = layer(symbol)
            arrays.update((name, parameter.data()) for name, parameter in layer.collect_params().items())
    return mx.sym.softmax(symbol, axis=-1, name=OUTPUT), arrays


def write_mxnet(symbol, arrays, folder):
    """Writes ``SYMBOL`` and ``PARAMS`` to ``folder``, for ``gluon.SymbolBlock.imports`` and ``mx.mod.Module``."""
    symbol.save(str(folder / SYMBOL), remove_amp_cast=False)
    named = {f"arg:{name}": arrays[name] for name in symbol.list_arguments() if name != INPUT}
    named.update((f"aux:{name}", arrays[name]) for name in symbol.list_auxiliary_states())
    mx.nd.save(str(folder / PARAMS), named)


def write_onnx(symbol, arrays, size, path):
    """Writes the graph to ``path`` as ONNX of version ``OPSET``; size: side of the input."""
    import onnx

    arrays = {**arrays, **_fixed_scales(symbol, arrays)}
    shape = (3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mx.onnx.export_model(
            symbol, arrays, [(1, *shape)], np.float32, str(path), dynamic=True, dynamic_input_shapes=[("n", *shape)]
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


def _fixed_scales(symbol, arrays):
    """Ones for the scales of batch norms that are said to have none: MXNet passes them over, ONNX would use them."""
    nodes = json.loads(symbol.tojson())["nodes"]
    norms = [node for node in nodes if node["op"] == "BatchNorm" and node["attrs"].get("fix_gamma", "True") == "True"]
    names = [nodes[node["inputs"][1][0]]["name"] for node in norms]
    return {name: mx.nd.ones_like(arrays[name]) for name in names}


def card(recipe, about, dataset):
    """The model card: Markdown. about: what ``head.json`` says; dataset: that section of the params."""
    backbone = BACKBONES[recipe.backbone]
    crop = [
        f"side = {backbone.crop!r} * min(image.size)",
        "left, top = (image.width - side) / 2, (image.height - side) / 2",
        "box = (left, top, left + side, top + side)",
    ]
    measured = METRICS / "test.json"
    return Template(Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")).substitute(
        backbone=recipe.backbone,
        weights=read_json(WEIGHTS / "weights.json")["source"],
        cut=recipe.cut,
        resize=recipe.resize,
        precision=recipe.precision,
        dtype=about["dtype"],
        classes=len(about["classes"]),
        opset=OPSET,
        size=backbone.size,
        region="the whole image"
        if recipe.resize == "squash"
        else f"the square in its centre whose side is {backbone.crop:.4g} of the image's shorter side",
        box="\n".join(["box = (0, 0, *image.size)"] if recipe.resize == "squash" else crop),
        interpolation=backbone.interpolation,
        INTERPOLATION=backbone.interpolation.upper(),
        mean=list(backbone.mean),
        std=list(backbone.std),
        data=dataset.name if dataset.name != "folder" else f"the folder {Path(dataset.path).name}",
        **about["images"],
        test=len(lists.read("test")),
        settings=_table(about["train"]),
        scores=_table(read_json(measured)) if measured.exists() else "| not measured | |",
    )


def _table(values):
    return "\n".join(f"| {name} | {value} |" for name, value in values.items())


if __name__ == "__main__":
    run(main)
