"""One engine that runs one network, as a process that is told by lines on stdin how many batches to run.

``python engine.py ENGINE NETWORK PRECISION INPUT THREADS FOLDER`` answers "ready", then every line ``n`` with the
seconds that n batches took. INPUT: "pixels" (float32, in memory) or "files" (JPEG on disk to features on disk).
Runs in the environment of headstart or of its peers, and imports only what the engine needs. ENGINE "quantize"
writes the int8 model that ONNX Runtime and OpenVINO share.
"""

import io
import itertools
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BATCH = 16


def headstart(network, precision, threads, folder):
    from bench import forward
    from stages.backbones.catalogue import BACKBONES
    from stages.inference import compile as inference

    body = forward.body(network, folder)
    calibration = None
    if precision == "int8":
        calibration = json.loads((folder / f"{network}.calibration.json").read_text())
    size = BACKBONES[network].size
    run = inference.compile(body, (BATCH, 3, size, size), precision, calibration=calibration)
    return lambda batches: (run(batch).asnumpy() for batch in batches)


def torch(network, precision, threads, folder, channels_last=False):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    if network == "vgg16":
        layers, channels = [], 3
        for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(repeats):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        run = nn.Sequential(*layers, nn.Flatten(), nn.Linear(25088, 4096), nn.ReLU(inplace=True)).eval()
    else:
        from efficientnet_lite_pytorch import EfficientNet

        whole = EfficientNet.from_name("efficientnet-lite0").eval()
        run = lambda x: whole.extract_features(x).mean((2, 3))  # noqa: E731
    layout = torch.channels_last if channels_last else torch.contiguous_format
    (run if network == "vgg16" else whole).to(memory_format=layout)

    def results(batches):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            for batch in batches:
                yield run(torch.from_numpy(batch).to(memory_format=layout)).float().numpy()

    return results


def torch_channels_last(*arguments):
    return torch(*arguments, channels_last=True)


def onnxruntime(network, precision, threads, folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = str(folder / f"{network}.{precision}.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda batches: (session.run(None, {"data": batch})[0] for batch in batches)


def openvino(network, precision, threads, folder, hint="LATENCY"):
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

    def results(batches):
        found = []
        queue.set_callback(lambda request, _: found.append(request.get_output_tensor(0).data.copy()))
        for batch in batches:
            queue.start_async({0: batch})
        queue.wait_all()
        return found

    return results


def openvino_throughput(*arguments):
    return openvino(*arguments, hint="THROUGHPUT")


def quantize(network, folder):
    """Writes ``<network>.int8.onnx``: QDQ, 8 bits per channel, calibrated on the images headstart calibrates on."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        batches = iter(np.load(folder / f"{network}.calibration.npy"))

        def get_next(self):
            image = next(self.batches, None)
            return None if image is None else {"data": image[None]}

    source, target = folder / f"{network}.float32.onnx", folder / f"{network}.int8.onnx"
    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(target), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **types)


def pixels(network, folder):
    """Batches without end, from memory."""
    images = np.load(folder / f"{network}.npy")
    yield from itertools.cycle(np.split(images, len(images) // BATCH))


def files(network, threads, folder):
    """Batches without end from JPEG files, decoded while the one before is computed, as a careful script does it."""
    from PIL import Image

    given = json.loads((folder / f"{network}.json").read_text())
    resample = getattr(Image.Resampling, given["interpolation"].upper())
    scale = np.float32(1 / (255 * np.array(given["std"], np.float32))).reshape(3, 1, 1)
    shift = np.float32(np.array(given["mean"]) / given["std"]).reshape(3, 1, 1)

    def decode(path):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image = image.convert("RGB")
            side = given["crop"] * min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
            return np.asarray(image.resize((given["size"],) * 2, resample, box)).transpose(2, 0, 1) * scale - shift

    paths = itertools.cycle(sorted((folder / "photos").iterdir()))
    with ThreadPoolExecutor(threads) as pool:
        ahead = [pool.submit(decode, path) for path in itertools.islice(paths, 2 * BATCH)]
        while True:
            yield np.stack([ahead.pop(0).result() for _ in range(BATCH)])
            ahead += [pool.submit(decode, path) for path in itertools.islice(paths, BATCH)]


def main():
    engine, network, precision, source, threads, folder = sys.argv[1:]
    threads, folder = int(threads), Path(folder)
    if engine == "quantize":
        return quantize(network, folder)
    results = globals()[engine](network, precision, threads, folder)
    batches = pixels(network, folder) if source == "pixels" else files(network, threads, folder)

    def run(count):
        for number, features in enumerate(results(itertools.islice(batches, count))):
            if source == "files":
                np.save(folder / f"{os.getpid()}-{number % 4}.npy", features)

    run(2)
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main()
