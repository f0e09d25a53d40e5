"""Puts features into the feature cache that no network has computed: ``python -m bench.fill < digests``.

To be run in a project with ``data/weights``; standard input has the SHA-256 of an image's bytes on each line, in
hexadecimal. For benchmarks of all that is around the forward pass, with more images than one would wait for.
"""

import contextlib
import sys
from itertools import islice

import numpy as np

from stages.common.settings import params
from stages.features import compute, identity
from stages.features.database import TRANSACTION


def main() -> None:
    given, rng = params.load(), np.random.default_rng(0)
    recipe = identity.current(given.backbone.cut, given.featurize, given.runtime.cache)
    with contextlib.closing(compute.cached(recipe, given.runtime)) as cache:
        while digests := [bytes.fromhex(line) for line in islice(sys.stdin, TRANSACTION)]:
            cache.put(digests, rng.standard_normal((len(digests), compute.length(recipe)), np.float32))


if __name__ == "__main__":
    main()
