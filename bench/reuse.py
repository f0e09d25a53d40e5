"""What the feature cache gives when it is warm and costs when it is cold: ``python -m bench.reuse``.

Warm: 20,000 small files read, hashed, looked up (1,280 numbers each) and written as float16 records.
Cold: photos through EfficientNet-Lite0 with the cache on and off by turns, one worker per core.
"""

import contextlib
import hashlib
import shutil
import statistics

import numpy as np

from bench.pictures import encoded, photo
from bench.workspace import DIM, run_featurize, workspace
from stages.common.settings import params
from stages.features import identity
from stages.features.store import FeatureCache

ROUNDS = 5
WARM, COLD = 20_000, 320
PUT = 250  # images at a time


def warm() -> list[float]:
    """Images per second with every feature in the cache, ``ROUNDS`` times."""
    rng = np.random.default_rng(0)
    files = [rng.bytes(400) for _ in range(WARM)]
    with workspace(files) as folder:
        given, cache = params.load(), folder / "cache"
        fingerprint = identity.fingerprint(identity.current(given.backbone.cut, given.featurize, str(cache)))
        with contextlib.closing(FeatureCache(cache, "auto", fingerprint, "bench", DIM)) as store:
            for start in range(0, WARM, PUT):
                numbers = range(start, start + PUT)
                digests = [hashlib.sha256(files[number]).digest() for number in numbers]
                store.put(digests, rng.random((PUT, DIM), dtype=np.float32))
        results = [run_featurize(str(cache)) for _ in range(ROUNDS)]
    assert all(result.forward_passes == 0 for result in results)
    return [result.images / result.seconds for result in results]


def cold() -> list[tuple[float, float]]:
    """Seconds without and with a cold cache, by turns."""
    files = [encoded(photo(seed, (500, 375)), "JPEG", quality=90) for seed in range(COLD)]
    pairs = []
    with workspace(files) as folder:
        for _ in range(ROUNDS):
            without = run_featurize("off").seconds
            pairs.append((without, run_featurize(str(folder / "cache")).seconds))
            shutil.rmtree(folder / "cache")
    return pairs


def main() -> None:
    rates = warm()
    print(f"warm: {statistics.median(rates):,.0f} images/s, median of {ROUNDS} (best {max(rates):,.0f})")
    ratios = [on / off for off, on in cold()]
    print(f"cold: {statistics.median(ratios):.3f} × the time without a cache, median of {ROUNDS}", end=" ")
    print(f"({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
