"""Images to features: what is in the feature cache is taken from it, the rest goes through the backbone once."""

import contextlib
import hashlib
import json
import math
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.features

from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backend import devices
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.common.files import read_json
from stages.common.layout import WEIGHTS
from stages.common.progress import progress
from stages.dataset.decode import decode
from stages.engines import local as workers
from stages.engines import ray as cluster
from stages.features.store import TRANSACTION, FeatureCache, place
from stages.inference import compile as inference
from stages.inference import pixels

# Raised whenever the same image and weights would give other features than before for a reason not listed below.
FORMAT = 1


class Recipe(NamedTuple):
    """All that turns an image into a feature; what it does not name has no influence on features."""

    backbone: str
    cut: str
    resize: str
    precision: str
    weights: str  # SHA-256 of the parameter file
    calibration: str  # SHA-256 of the ranges that int8 needs, "" for another precision


def recipe(cut, featurize):
    """The recipe for the network in ``data/weights``; featurize: that section of the params."""
    name = read_json(WEIGHTS / "weights.json")["backbone"]
    cut = BACKBONES[name].cuts[0] if cut == "auto" else cut
    weights = hashlib.sha256((WEIGHTS / "weights.params").read_bytes()).hexdigest()
    calibration = ""
    if featurize.precision == "int8":
        calibration = hashlib.sha256((WEIGHTS / "calibration.json").read_bytes()).hexdigest()
    return Recipe(name, cut, featurize.resize, featurize.precision, weights, calibration)


def fingerprint(recipe):
    """SHA-256 (bytes) over the recipe, the preprocessing, and the versions of the libraries that decode and compute."""
    decoders = {name: PIL.features.version(name) for name in ("pil", "jpg", "zlib", "webp")}
    parts = {
        "format": [FORMAT, pixels.VERSION, inference.VERSION],
        "recipe": recipe._asdict(),
        "preprocessing": asdict(BACKBONES[recipe.backbone]),
        "libraries": {"mxnet": mx.__version__, **decoders},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


class Timer:
    """Adds up seconds by what they were spent on."""

    def __init__(self, *names):
        self.seconds = dict.fromkeys(names, 0.0)

    @contextlib.contextmanager
    def __call__(self, name):
        begun = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begun

    def add(self, seconds):
        for name, value in seconds.items():
            self.seconds[name] += value


class Chunk(NamedTuple):
    """Images for one forward pass: where their files are, the digests and the bytes of the files."""

    paths: list
    digests: list
    files: list


def _refuse(path, error):
    # The images stage has read every file, so this one is not as it was then.
    raise InputError(f"{error}: `dvc repro` takes up what has changed")


def featurize(paths, recipe, runtime, allocate, on_bad=_refuse):
    """Computes the features of the images at ``paths``.

    recipe: see :func:`recipe`. runtime: that section of the params. allocate(n, dim): returns the array to be
    filled; row i gets the feature of ``paths[i]``. on_bad(path, error): called for every file that cannot be read or
    decoded, with an InputError that says why, which it raises unless told otherwise; the file's row stays empty.

    Images with the same bytes go through the network once, and none does whose feature the cache holds. Returns the
    array (None where no file is good), the SHA-256 digests of the files (bytes, by row; None for a bad file), and a
    dict for the metrics: images, forward_passes, reused, workers and nodes (machines) at work, and seconds by what
    they went into (decode and forward add up the workers' own time).
    """
    spent = Timer("read", "cache", "decode", "forward")
    with spent("read"):
        by_row = [_digest(path, on_bad) for path in progress(paths, desc="reading", leave=False)]
    rows = {}
    for row, digest in enumerate(by_row):
        if digest is not None:
            rows.setdefault(digest, []).append(row)

    about = " ".join([*recipe[:4], recipe.weights[:12]])
    cache = FeatureCache(place(runtime.cache), runtime.cache_gb, fingerprint(recipe), about)
    array = None
    missing = []

    def fill(digests, features):
        nonlocal array
        if array is None:
            array = allocate(len(paths), len(features[0]))
        firsts = [rows[digest][0] for digest in digests]
        with np.errstate(over="ignore"):
            array[firsts] = features
        finite = np.isfinite(array[firsts]).all(axis=1)
        if not finite.all():
            path = paths[firsts[finite.argmin()]]
            raise InputError(f"{path} has a feature beyond {array.dtype.name}: set featurize.dtype to float32")
        for digest, feature in zip(digests, features):
            if len(rows[digest]) > 1:
                array[rows[digest]] = feature

    for digests in _batches(rows, TRANSACTION):
        with spent("cache"):
            found = dict(zip(digests, cache.get(digests)))
        held = [digest for digest in digests if found[digest] is not None]
        missing += [digest for digest in digests if found[digest] is None]
        if held:
            fill(held, [found[digest] for digest in held])

    bar = progress(total=len(missing), desc="featurizing")
    used = set()
    with bar, contextlib.closing(_forward(missing, rows, paths, recipe, runtime, used)) as results:
        for chunk, (features, errors, seconds) in results:
            for digest, error in errors.items():
                first, *copies = rows[digest]
                on_bad(paths[first], error)
                for row in copies:
                    on_bad(paths[row], InputError(f"{paths[row]} is a copy: {error}"))
                for row in rows[digest]:
                    by_row[row] = None
            good = [digest for digest in chunk.digests if digest not in errors]
            if good:
                fill(good, features)
                with spent("cache"):
                    cache.put(good, features)
            spent.add(seconds)
            bar.update(len(chunk.digests))
    cache.close()
    counts = {"images": len(paths), "forward_passes": len(missing), "reused": len(paths) - len(missing)}
    counts |= {"workers": len(used), "nodes": len({node for node, _ in used})}
    return array, by_row, {**counts, **{f"seconds_{name}": seconds for name, seconds in spent.seconds.items()}}


def read(path):
    """The bytes of an image file and their SHA-256 digest. Raises InputError where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    return data, hashlib.sha256(data).digest()


def _digest(path, on_bad):
    try:
        return read(path)[1]
    except InputError as error:
        on_bad(path, error)
        return None


def _forward(digests, rows, paths, recipe, runtime, used):
    """Runs the images with ``digests`` through the network.

    Yields (Chunk, (features (n, dim) float32 of the images that can be decoded, {digest: InputError} of the others,
    seconds by what for)).

    used: a set that gets (node, worker) of every worker at work.
    """
    if not digests:
        return
    setup = partial(_load, recipe=recipe, batch_size=runtime.batch_size)
    chunks = (
        _chunk(batch, [paths[rows[digest][0]] for digest in batch]) for batch in _batches(digests, runtime.batch_size)
    )
    count = math.ceil(len(digests) / runtime.batch_size)
    environment = inference.environment(BACKBONES[recipe.backbone], recipe.precision)
    options = {"environment": environment, "describe": lambda chunk: ", ".join(map(str, chunk.paths))}
    if runtime.engine == "ray":
        # Other machines do not see data/weights.
        setup = partial(setup, weights={file.name: file.read_bytes() for file in WEIGHTS.iterdir()})
        options |= {"address": runtime.ray_address, "workers": runtime.workers, "used": used}
        yield from cluster.run(setup, runtime.devices, chunks, count, **options)
    else:
        found = devices.resolve(runtime.devices, runtime.workers)
        used.update(("here", number) for number in range(min(len(found), count)))
        yield from workers.run(setup, found, chunks, **options)


def _batches(values, size):
    values = iter(values)
    while batch := list(islice(values, size)):
        yield batch


def _chunk(digests, paths):
    files = []
    for digest, path in zip(digests, paths):
        data, now = read(path)
        if now != digest:
            raise InputError(f"{path} was changed while it was being featurized: run the same command again")
        files.append(data)
    return Chunk(paths, digests, files)


def _load(device, threads, recipe, batch_size, weights=None):
    """Sets up a worker (see ``tasks``): the compiled body on ``device``; returns what starts a :class:`Chunk`.

    weights: the files of ``data/weights`` (bytes by name), on a machine that does not have it.
    """
    backbone = BACKBONES[recipe.backbone]
    context = devices.context(device)
    with _folder(weights) as folder:
        body = zoo.body(zoo.load(recipe.backbone, folder, sha256=recipe.weights), recipe.cut)
        calibration = read_json(folder / "calibration.json") if recipe.calibration else None
    pool = ThreadPoolExecutor(threads)
    compiled = {}

    def start(chunk):
        begun = time.perf_counter()
        found = list(pool.map(partial(_pixels, backbone=backbone, resize=recipe.resize), chunk.files, chunk.paths))
        images = [image for image in found if not isinstance(image, InputError)]
        errors = {digest: error for digest, error in zip(chunk.digests, found) if isinstance(error, InputError)}
        decoded = time.perf_counter()
        if not images:
            return lambda: (None, errors, {"decode": decoded - begun})
        # Few batch sizes, so that few graphs are compiled; the rest of a batch is padding.
        size = min(batch_size, 1 << (len(images) - 1).bit_length())
        shape = (size, 3, backbone.size, backbone.size)
        batch = np.empty(shape, np.float32)
        batch[len(images) :] = 0
        pixels.normalise(np.stack(images), backbone, out=batch[: len(images)])
        with devices.memory_of(device, "runtime.batch_size"):
            if shape not in compiled:
                compiled[shape] = inference.compile(body, shape, recipe.precision, context, calibration)
            output = compiled[shape](batch)

        def finish():
            waiting = time.perf_counter()
            with devices.memory_of(device, "runtime.batch_size"):
                features = output.asnumpy()[: len(images)]
            seconds = {"decode": decoded - begun, "forward": time.perf_counter() - waiting}
            return features, errors, seconds

        return finish

    return start


@contextlib.contextmanager
def _folder(weights):
    """Yields the folder of the weights: ``data/weights``, or a temporary one with the files given."""
    if weights is None:
        yield WEIGHTS
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, data in weights.items():
            Path(folder, name).write_bytes(data)
        yield Path(folder)


def _pixels(data, path, backbone, resize):
    """The image's pixels (size, size, 3), or the InputError that says why it has none."""
    try:
        return pixels.pixels(decode(data, path, pixels.least_side(backbone)), backbone, resize)
    except InputError as error:
        return error
