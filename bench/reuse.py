"""What the feature cache gives when it is warm and costs when it is cold: ``python -m bench.reuse``.

Warm: 20,000 small files read, hashed, looked up (1,280 numbers each) and written as float16 records.
Cold: photos through EfficientNet-Lite0 with the cache on and off by turns, one worker per core.
"""

import contextlib
import io
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import yaml

from bench.pictures import encoded, photo
from stages import featurize, weights
from stages.common import files, layout, params
from stages.dataset import lists
from stages.features import compute as features
from stages.features.store import VARIABLE, FeatureCache

ROUNDS = 5
WARM, DIM = 20_000, 1280
COLD = 320


@contextlib.contextmanager
def workspace(files, network="efficientnet_lite0", weights_file=None):
    """The current folder becomes one where featurize can run: params, weights, and ``files`` as images.

    files: iterable of bytes. weights_file: Gluon's parameters of ``network``; the published ones by default.
    """
    before, given = Path.cwd(), yaml.safe_load(Path(params.FILE).read_text())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path(params.FILE).write_text(yaml.safe_dump(given))
            if weights_file is None:
                weights.main()
            else:
                layout.WEIGHTS.mkdir(parents=True)
                (layout.WEIGHTS / "weights.params").symlink_to(weights_file)
                files.write_json(layout.WEIGHTS / "weights.json", {"backbone": network})
            (layout.IMAGES / "class").mkdir(parents=True)
            rows = []
            for i, data in enumerate(files):
                rows.append(lists.Row(i, 0, f"class/{i:05}"))
                (layout.IMAGES / rows[i].path).write_bytes(data)
            layout.SPLIT.mkdir()
            for subset in layout.SUBSETS:
                lists.write(layout.SPLIT / f"{subset}.lst", rows if subset == "train" else [])
            files.write_text(layout.CLASSES, "class\n")
            yield Path(folder)
        finally:
            os.chdir(before)


def run(cache):
    """Runs featurize with ``$HEADSTART_CACHE`` set to ``cache``; returns its metrics."""
    os.environ[VARIABLE] = str(cache)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        featurize.main()
    return files.read_json(layout.METRICS / "featurize.json")


def warm():
    """Images per second with every feature in the cache, ``ROUNDS`` times."""
    rng = np.random.default_rng(0)
    files = [rng.bytes(400) for _ in range(WARM)]
    with workspace(files) as folder:
        given = params.load()
        fingerprint = features.fingerprint(features.recipe(given.backbone.cut, given.featurize))
        cache = FeatureCache(folder / "cache", "auto", fingerprint, "bench")
        for start in range(0, WARM, 250):
            digests = [features.read(layout.IMAGES / f"class/{i:05}")[1] for i in range(start, start + 250)]
            cache.put(digests, rng.random((250, DIM), dtype=np.float32))
        cache.close()
        results = [run(folder / "cache") for _ in range(ROUNDS)]
    assert all(result["forward_passes"] == 0 for result in results)
    return [result["images_per_second"] for result in results]


def cold():
    """Seconds without and with a cold cache, by turns: a list of pairs."""
    files = [encoded(photo(seed, (500, 375)), "JPEG", quality=90) for seed in range(COLD)]
    pairs = []
    with workspace(files) as folder:
        for _ in range(ROUNDS):
            without = run("off")["seconds"]
            pairs.append((without, run(folder / "cache")["seconds"]))
            shutil.rmtree(folder / "cache")
    return pairs


def main():
    rates = warm()
    print(f"warm: {statistics.median(rates):,.0f} images/s, median of {ROUNDS} (best {max(rates):,.0f})")
    pairs = cold()
    ratios = [on / off for off, on in pairs]
    print(f"cold: {statistics.median(ratios):.3f} × the time without a cache, median of {ROUNDS}", end=" ")
    print(f"({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
