"""One engine that runs one network, as a process that is told by lines on stdin how many batches to run.

``python engine.py ENGINE NETWORK PRECISION INPUT THREADS FOLDER`` answers "ready", then every line ``n`` with the
seconds that n batches took. INPUT: "pixels" (float32, in memory), or the folder of JPEGs in FOLDER that are to become
features on disk, and by what they are decoded: "photos:pillow", "photos:simplejpeg"; headstart does that its own way.
FOLDER is what ``bench.prepare`` has filled. Runs in the environment of headstart or of its peers, and imports only
what the engine needs.
"""

import hashlib
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 16

Batch = NDArray[np.float32]  # (BATCH, 3, size, size)
Features = NDArray[np.float32]  # (BATCH, dim)
Run = Callable[[Iterable[Batch]], Iterable[Features]]


def headstart(network: str, precision: str, threads: int, folder: Path) -> Run:
    from bench import prepare
    from stages.inference.compile import PASS

    run = prepare.ready(network, precision, PASS, folder)

    def results(batches: Iterable[Batch]) -> Iterator[Features]:
        for batch in batches:
            outputs = [run(images) for images in np.split(batch, BATCH // PASS)]
            yield np.concatenate([output.asnumpy() for output in outputs])

    return results


def headstart_from_files(network: str, precision: str, threads: int, folder: Path, photos: Path) -> Run:
    """As a worker of ``featurize``, which reads and checks the files itself: the batches are not looked at."""
    from bench import prepare
    from stages.dataset.sources.files.places import Place
    from stages.features import extract
    from stages.preprocessing import filling

    # As for all but the first images of many.
    filling.FEW = 0
    start = prepare.worker(network, precision, threads, BATCH, folder)
    paths = sorted(photos.iterdir())
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    places = [Place(str(path)) for path in paths]
    rows = itertools.cycle(np.split(np.arange(len(paths)), len(paths) // BATCH))

    def chunk() -> extract.Chunk:
        its = next(rows)
        return extract.Chunk([paths[i].name for i in its], [digests[i] for i in its], [places[i] for i in its])

    def results(batches: Iterable[Batch]) -> Iterator[Features]:
        # With a thread of its own, as here, a worker begins no chunk before it has done the last.
        for _ in batches:
            yield start(chunk())().features

    return results


def with_torch(network: str, precision: str, threads: int, folder: Path, channels_last: bool = False) -> Run:
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    if network == "vgg16":
        layers: list[Any] = []
        channels = 3
        for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(repeats):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        whole = nn.Sequential(*layers, nn.Flatten(), nn.Linear(25088, 4096), nn.ReLU(inplace=True)).eval()
        run = whole
    elif network != "efficientnet_lite0":
        from bench.peers_export import Body

        run = whole = Body(network)
    else:
        from efficientnet_lite_pytorch import EfficientNet

        whole = EfficientNet.from_name("efficientnet-lite0").eval()
        run = lambda x: whole.extract_features(x).mean((2, 3))  # noqa: E731
    layout = torch.channels_last if channels_last else torch.contiguous_format
    whole.to(memory_format=layout)

    def results(batches: Iterable[Batch]) -> Iterator[Features]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            for batch in batches:
                yield run(torch.from_numpy(batch).to(memory_format=layout)).float().numpy()

    return results


def with_onnxruntime(network: str, precision: str, threads: int, folder: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = str(folder / f"{network}.{precision}.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda batches: (session.run(None, {"data": batch})[0] for batch in batches)


def with_openvino(network: str, precision: str, threads: int, folder: Path, hint: str = "LATENCY") -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / f"{network}.{'int8' if precision == 'int8' else 'float32'}.onnx")
    model.reshape([BATCH, *model.inputs[0].partial_shape[1:]])
    given = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", given))

    def results(batches: Iterable[Batch]) -> list[Features]:
        found: list[Features] = []
        queue.set_callback(lambda request, _: found.append(request.get_output_tensor(0).data.copy()))
        for batch in batches:
            queue.start_async({0: batch})
        queue.wait_all()
        return found

    return results


ENGINES: dict[str, Callable[[str, str, int, Path], Run]] = {
    "headstart": headstart,
    "torch": with_torch,
    "torch_channels_last": partial(with_torch, channels_last=True),
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
    "openvino_throughput": partial(with_openvino, hint="THROUGHPUT"),
}


def from_memory(network: str, folder: Path) -> Iterator[Batch]:
    """Batches without end."""
    images = np.load(folder / f"{network}.npy")
    return itertools.cycle(np.split(images, len(images) // BATCH))


def from_files(network: str, threads: int, folder: Path, photos: Path, decoder: str) -> Iterator[Batch]:
    """Batches without end from JPEG files, decoded while the one before is computed, as a careful script does it."""
    from PIL import Image

    given = json.loads((folder / f"{network}.json").read_text())
    resample = getattr(Image.Resampling, given["interpolation"].upper())
    scale = np.float32(1 / (255 * np.array(given["std"], np.float32))).reshape(3, 1, 1)
    shift = np.float32(np.array(given["mean"]) / given["std"]).reshape(3, 1, 1)
    least = int(2 * given["size"] / given["crop"])

    def opened(data: bytes) -> Any:
        if decoder == "pillow":
            image = Image.open(io.BytesIO(data))
            image.draft("RGB", (least, least))
            return image.convert("RGB")
        import simplejpeg

        return Image.fromarray(simplejpeg.decode_jpeg(data, min_height=least, min_width=least, min_factor=2))

    def decode(path: Path) -> NDArray[np.float32]:
        image = opened(path.read_bytes())
        side = given["crop"] * min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((given["size"],) * 2, resample, box)).transpose(2, 0, 1) * scale - shift

    paths = itertools.cycle(sorted(photos.iterdir()))
    with ThreadPoolExecutor(threads) as pool:
        ahead = [pool.submit(decode, path) for path in itertools.islice(paths, 2 * BATCH)]
        while True:
            yield np.stack([ahead.pop(0).result() for _ in range(BATCH)])
            ahead += [pool.submit(decode, path) for path in itertools.islice(paths, BATCH)]


def ready(engine: str, network: str, precision: str, source: str, threads: int, folder: Path) -> tuple[Run, Any]:
    """The engine, and what it is to run on, without end."""
    if source == "pixels":
        return ENGINES[engine](network, precision, threads, folder), from_memory(network, folder)
    name, decoder = source.split(":")
    if engine == "headstart":
        return headstart_from_files(network, precision, threads, folder, folder / name), itertools.repeat(None)
    run = ENGINES[engine](network, precision, threads, folder)
    return run, from_files(network, threads, folder, folder / name, decoder)


def main() -> None:
    engine, network, precision, source, count, place = sys.argv[1:]
    folder = Path(place)
    results, batches = ready(engine, network, precision, source, int(count), folder)

    def run(count: int) -> None:
        for number, features in enumerate(results(itertools.islice(batches, count))):
            if source != "pixels":
                np.save(folder / f"{os.getpid()}-{number % 4}.npy", features)

    run(2)
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main()
