"""Writes the trained classifier, body and head in one graph, for use without headstart.

``python -m stages.export`` leaves in ``data/export``: the graph as MXNet symbol and parameters and as ONNX, the
labels, and a model card that tells how to use them.
"""

import argparse
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from stages.backbones import catalogue, zoo
from stages.backend.mx import mx
from stages.classifier.head import build
from stages.classifier.model import trained
from stages.classifier.scores import TestMetrics
from stages.common.disk.files import replacing, write_text
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.common.settings.layout import METRICS
from stages.exports import card, graph, onnx

FOLDER = Path("data/export")
ONNX, LABELS, CARD = "model.onnx", "labels.txt", "README.md"
FILES = (graph.SYMBOL, graph.PARAMS, ONNX, LABELS, CARD)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """The command ``python -m stages.export``."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.export",
        description="Writes the trained classifier as MXNet symbol and parameters and as ONNX, with a model card.",
    )
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER", help=f"where to (default: {FOLDER})")
    output = parser.parse_args(arguments).output
    dataset = params.load().dataset
    check_place(output)
    if importlib.util.find_spec("onnx") is None:
        raise InputError("writing ONNX needs the package onnx: `pip install -r requirements-export.txt`")

    values, info = trained.load()
    trained.check_weights(info)
    backbone, cut = catalogue.find(info.features.backbone), info.features.cut
    network = zoo.load(backbone.name, sha256=info.features.weights)
    head = build(zoo.build(backbone.name), cut, len(info.features.classes), 0.0, "last", [mx.cpu()], values)
    joined = graph.join(network, backbone, cut, head.layers)
    scores = METRICS / "test.json"
    with replacing(output, folder=True) as folder:
        graph.save(joined, folder)
        onnx.write(joined, backbone.size, folder / ONNX)
        write_text(folder / LABELS, "".join(f"{name}\n" for name in info.features.classes))
        measured = TestMetrics.load(scores, "run `dvc repro`") if scores.exists() else None
        write_text(folder / CARD, card.write(info, backbone, dataset, measured))
    for name in FILES:
        print(f"{output / name}: {(output / name).stat().st_size:,} bytes")


def check_place(output: Path) -> None:
    """Raises InputError unless ``output`` is new, or a folder with nothing in it but an export: it is replaced."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder to write to")
    others = sorted(set(os.listdir(output)) - set(FILES)) if output.exists() else []
    if others:
        raise InputError(f"{output} holds {others[0]}, which is no part of an export: name an empty or a new folder")


if __name__ == "__main__":
    run(main)
