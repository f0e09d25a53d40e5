"""The forward pass against PyTorch, ONNX Runtime and OpenVINO, on the same cores: ``python -m bench.forward``.

Every engine is a process of its own (headstart's workers are one per core) that lives through the comparison; they
are asked by turns, and what counts is the median of the rounds' ratios. Peers that can run in several ways run in
each. Needs `.venv-peers` (`make bench` makes it).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import joblib
import numpy as np

from bench.engine import BATCH
from bench.pictures import encoded, photo
from bench.table import Row
from stages import export, weights
from stages.backbones import checkpoint
from stages.backbones import zoo as networks
from stages.backbones.catalogue import BACKBONES
from stages.backend.mx import mx
from stages.dataset.decode import decode
from stages.inference import compile as inference
from stages.inference import pixels, quantize

CORES = joblib.cpu_count(only_physical_cores=True)
PHOTOS = 64
ROUNDS, SECONDS = 7, 1.0
PEERS = Path(".venv-peers/bin/python")

# (engine, processes); the threads of each are its share of the cores.
FLOAT32 = (("torch", 1), ("torch_channels_last", 1), ("onnxruntime", 1), ("onnxruntime", CORES), ("openvino", 1),
           ("openvino_throughput", 1))  # fmt: skip
BFLOAT16 = (("torch_channels_last", 1), ("openvino", 1), ("openvino_throughput", 1))
INT8 = (("onnxruntime", 1), ("onnxruntime", CORES), ("openvino", 1), ("openvino_throughput", 1))
COMPARISONS = [
    (network, precision, peers)
    for network in ("efficientnet_lite0", "vgg16")
    for precision, peers in (("float32", FLOAT32), ("bfloat16", BFLOAT16), ("int8", INT8))
]
# What headstart is to reach, as a multiple of each peer's rate.
AIMS = {
    ("efficientnet_lite0", "float32"): {"torch_channels_last": 3.0, "openvino": 1.0, "onnxruntime": 1.0},
    ("efficientnet_lite0", "bfloat16"): {"openvino": 1.0},
    ("efficientnet_lite0", "int8"): {"onnxruntime": 1.0, "openvino": 1.0},
    ("vgg16", "float32"): {"torch": 1.0, "torch_channels_last": 1.0, "onnxruntime": 1.0, "openvino": 1.0},
    ("vgg16", "bfloat16"): {"openvino": 0.95},
    ("vgg16", "int8"): {"onnxruntime": 1.0},
}


def body(network, folder):
    """The frozen body of ``network`` with the weights that :func:`prepare` left in ``folder``."""
    whole = networks.build(network)
    whole.load_parameters(str(folder / f"{network}.params"), ctx=mx.cpu())
    return networks.Body(whole, "auto")


def prepare(folder):
    """Fills ``folder`` with all that the engines read: photos, pixels, weights, graphs, ranges for int8."""
    (folder / "photos").mkdir()
    files = [encoded(photo(seed, (500, 375)), "JPEG", quality=90) for seed in range(PHOTOS)]
    for number, data in enumerate(files):
        (folder / "photos" / f"{number:03}.jpg").write_bytes(data)
    for name in ("efficientnet_lite0", "vgg16"):
        backbone = BACKBONES[name]
        decoded = [pixels.pixels(decode(data, name), backbone, "crop") for data in files]
        np.save(folder / f"{name}.npy", pixels.normalise(np.stack(decoded), backbone))
        np.save(folder / f"{name}.calibration.npy", pixels.normalise(quantize.images(backbone.size), backbone))
        (folder / f"{name}.json").write_text(json.dumps(asdict(backbone)))
        write_weights(name, folder)
        its = body(name, folder)
        (folder / f"{name}.calibration.json").write_text(json.dumps(inference.calibrate(its, backbone)))
        # As any exporter would: batch norms and paddings as they are, for the engines to fold.
        symbol, params = inference.trace(its)
        arrays = {key: mx.nd.array(value) for key, value in params.items()}
        export.write_onnx(symbol, arrays, backbone.size, folder / f"{name}.float32.onnx")
        subprocess.run(
            [PEERS, "bench/engine.py", "quantize", name, "", "", "1", folder], check=True, capture_output=True
        )


def write_weights(name, folder):
    """Writes ``<name>.params`` to ``folder``: published weights where they are in a package, else random ones."""
    network = networks.build(name)
    if name == "vgg16":
        # Its weights do not come as a package; the time does not depend on them.
        mx.random.seed(0)
        network.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0))
        network(mx.nd.zeros((1, 3, 224, 224))).wait_to_read()
        network.save_parameters(str(folder / f"{name}.params"))
    else:
        path, _ = weights.published(name)
        tensors = checkpoint.for_network(name, checkpoint.read(path), path)
        mx.nd.save(str(folder / f"{name}.params"), {key: mx.nd.array(value) for key, value in tensors.items()})


@contextmanager
def engine(name, network, precision, source, processes, folder):
    """Starts an engine; yields a function that lets its processes run n batches each and returns images/s."""
    python, environment = str(PEERS), dict(os.environ)
    threads = str(max(1, CORES // processes))
    if name == "headstart":
        python = sys.executable
        environment |= inference.environment(BACKBONES[network], precision)
    command = [python, "bench/engine.py", name, network, precision, source, threads, str(folder)]
    environment |= {"OMP_NUM_THREADS": threads, "PYTHONPATH": os.getcwd()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(processes)]
    try:
        for process in started:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{name} does not start: {' '.join(map(str, command))}")

        def rate(count):
            begun = time.perf_counter()
            for process in started:
                print(count, file=process.stdin, flush=True)
            for process in started:
                process.stdout.readline()
            return processes * count * BATCH / (time.perf_counter() - begun)

        yield rate
    finally:
        for process in started:
            process.kill()
            process.wait()


def compare(network, precision, source, contestants, folder):
    """Runs (engine, processes) by turns; returns the rates (images per second) by contestant, one for each round."""
    with ExitStack() as stack:
        rates = {
            each: stack.enter_context(engine(each[0], network, precision, source, each[1], folder))
            for each in contestants
        }
        # A round of each takes about as long, and at least one batch.
        counts = {each: max(1, round(SECONDS * rate(1) / BATCH / each[1])) for each, rate in rates.items()}
        found = {each: [] for each in contestants}
        for _ in range(ROUNDS if network != "vgg16" else 3):
            for each, rate in rates.items():
                found[each].append(rate(counts[each]))
    return found


def rows(folder, source="pixels"):
    """Yields the rows of the table: headstart against every peer, and bfloat16 and int8 against float32."""
    own = {}
    for network, precision, peers in COMPARISONS:
        if source == "files" and precision != "float32":
            continue
        ours = ("headstart", CORES)
        found = compare(network, precision, source, [ours, *peers], folder)
        own[network, precision] = statistics.median(found[ours])
        for peer in peers:
            ratio = statistics.median(a / b for a, b in zip(found[ours], found[peer]))
            aim = AIMS[network, precision].get(peer[0].replace("_throughput", "")) if source == "pixels" else None
            processes = f" × {peer[1]}" if peer[1] > 1 else ""
            what = f"{network} {precision}{' from JPEG' if source == 'files' else ''} / {peer[0]}{processes}"
            yield Row(what, own[network, precision], statistics.median(found[peer]), "images/s", ratio, aim)
        if precision != "float32" and source == "pixels":
            pair = own[network, precision], own[network, "float32"]
            aim = 1.5 if (network, precision) == ("efficientnet_lite0", "bfloat16") else None
            yield Row(f"{network} {precision} / its own float32", *pair, "images/s", pair[0] / pair[1], aim)


def main():
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for row in rows(Path(folder)):
            print(row)


if __name__ == "__main__":
    main()
