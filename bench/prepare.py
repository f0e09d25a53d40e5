"""What the engines that are compared read: photos, pixels, weights, graphs, calibrations."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Optional

import numpy as np

from bench.pictures import encoded, photo
from bench.weights import save_random
from stages.backbones import parameters, zoo
from stages.backbones.catalogue import BACKBONES, cut_of
from stages.backbones.families import table
from stages.backend.mx import mx
from stages.checkpoints import matching
from stages.checkpoints.read import read
from stages.common.disk.files import sha256
from stages.common.errors import InputError
from stages.common.settings.layout import WEIGHTS_FILE
from stages.dataset.sources.files.decode import decode
from stages.exports import onnx
from stages.exports.graph import Graph
from stages.features import extract
from stages.features.stored.recipe import Recipe
from stages.inference import calibrate, compile, pictures
from stages.inference.environment import check
from stages.inference.graph import trace
from stages.preprocessing import pixels

NETWORKS = ("efficientnet_lite0", "vgg16")
# Those that PyTorch's libraries have too, and so the peers take from there.
FURTHER = (
    *("resnet50", "efficientnet_b0", "mobilenetv3_large_100", "convnext_tiny"),
    *("vit_small_patch16_224", "vit_small_patch14_dinov2"),
)
PHOTOS = 64
PEERS = Path(".venv-peers/bin/python")


def prepare(folder: Path, names: Sequence[str] = NETWORKS) -> None:
    """Fills ``folder`` with all that ``bench.engine`` reads, for every network in ``names``. Needs ``PEERS``."""
    files = save_photos(folder)
    for name in names:
        save_network(name, files, folder)
        if BACKBONES[name].int8:
            run_peer("bench/quantize.py", name, str(folder))


def run_peer(*command: str) -> None:
    """Runs a module in the environment of the peers. Raises CalledProcessError where that fails."""
    variables = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([PEERS, *command], env=variables, check=True, capture_output=True)


def computable(precision: str, name: Optional[str] = None) -> bool:
    """Whether headstart computes in ``precision`` on this machine's CPU, and, if one is given, the network ``name``."""
    if name is not None and precision == "int8" and not BACKBONES[name].int8:
        return False
    try:
        check(precision, "cpu")
    except InputError:
        return False
    return True


def photos(size: tuple[int, int] = (500, 375)) -> list[bytes]:
    """``PHOTOS`` JPEG files."""
    return [encoded(photo(seed, size), "JPEG", quality=90) for seed in range(PHOTOS)]


def different(files: Sequence[bytes], count: int) -> Iterator[bytes]:
    """``count`` of the image files, over and over, none the same: what is behind the end of one makes it another."""
    return (files[i % len(files)] + i.to_bytes(4, "big") for i in range(count))


def save_photos(folder: Path, name: str = "photos", size: tuple[int, int] = (500, 375)) -> list[bytes]:
    """Writes ``<folder>/<name>/<n>.jpg``; returns their bytes."""
    (folder / name).mkdir()
    files = photos(size)
    for number, data in enumerate(files):
        (folder / name / f"{number:03}.jpg").write_bytes(data)
    return files


def save_network(name: str, files: list[bytes], folder: Path) -> None:
    """Writes what the engines need to run ``name`` in float32 on the photos ``files``, and to make an int8 model."""
    backbone = BACKBONES[name]
    decoded = [pixels.pixels(decode(data, name), backbone, "crop") for data in files]
    np.save(folder / f"{name}.npy", pixels.normalise(np.stack(decoded), backbone))
    (folder / f"{name}.json").write_text(json.dumps(asdict(backbone)))
    save_weights(name, folder)
    its = body(name, folder)
    if backbone.int8:
        np.save(folder / f"{name}.calibration.npy", pixels.normalise(pictures.images(backbone.size), backbone))
        (folder / f"{name}.calibration.json").write_text(calibrate.measure(its, backbone).to_json())
    if name in FURTHER:
        run_peer("bench/peers_export.py", name, str(backbone.size), str(folder))
        return
    # As any exporter would: batch norms and paddings as they are, for the engines to fold.
    symbol, values = trace(its)
    arrays = {key: mx.nd.array(value) for key, value in values.items()}
    onnx.write(Graph(symbol, arrays), backbone.size, folder / f"{name}.float32.onnx")


def save_weights(name: str, folder: Path) -> Path:
    """Writes ``<folder>/<name>``, which may stand for ``data/weights``; returns it.

    The weights are the published ones where they are in a package, else random.
    """
    place = folder / name
    place.mkdir()
    if name != "efficientnet_lite0":
        # The weights do not come as a package; the time does not depend on them.
        path, source = save_random(name, folder / f"{name}.params"), "random"
    else:
        path, source = table.of(name).published(name)
    parameters.save(place, matching.for_network(name, read(path), path), name, source, sha256(path))
    return place


def body(name: str, folder: Path) -> zoo.Layer:
    """The frozen body of ``name`` with the weights that :func:`save_weights` left in ``folder``."""
    backbone, place = BACKBONES[name], folder / name
    network = zoo.load(name, place, sha256=parameters.read_info(place).sha256)
    return zoo.body(network, cut_of(backbone, "auto"))


def ready(name: str, precision: str, batch: int, folder: Path) -> compile.Network:
    """The compiled body of ``name`` for batches of so many images."""
    size = BACKBONES[name].size
    shape = (batch, 3, size, size)
    return compile.compiled(body(name, folder), shape, precision, calibration=_calibration(name, precision, folder))


def worker(name: str, precision: str, threads: int, batch: int, folder: Path) -> extract.Start:
    """What a worker of ``featurize`` on this CPU is, for chunks of so many images."""
    weights = parameters.read_info(folder / name).sha256
    recipe = Recipe(name, cut_of(BACKBONES[name], "auto"), "crop", precision, weights, "")
    calibration = _calibration(name, precision, folder)
    return extract.set_up("cpu(0)", threads, recipe, folder / name / WEIGHTS_FILE.name, calibration, batch)


def _calibration(name: str, precision: str, folder: Path) -> Optional[calibrate.Calibration]:
    if precision != "int8":
        return None
    return calibrate.Calibration.from_json((folder / f"{name}.calibration.json").read_text())
