"""The features of some images as points on a plane: near each other where the features are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.features.stored.records import Features
from stages.findings.components import components
from stages.findings.plane import SPAN

# Of more images, so many: t-SNE takes a second for them, and a page that shows them stays small.
MOST = 2_000
# t-SNE starts from the first two components and goes by so many of them.
COMPONENTS, PERPLEXITY = 50, 30.0


def chosen(digests: Sequence[bytes]) -> NDArray[np.int64]:
    """The rows that the map shows, all or ``MOST``: by their digests, so that a new image changes one at most."""
    return np.sort(sorted(range(len(digests)), key=lambda row: (digests[row], row))[:MOST]).astype(np.int64)


def flat(features: Features) -> NDArray[np.int64]:
    """Where ``features`` (n, dim) lie on the plane: (n, 2). The same for the same features, on any number of cores."""
    from stages.findings import tsne  # loads Numba

    if len(features) < 5:
        return np.stack([np.arange(len(features)) * SPAN // max(len(features) - 1, 1)] * 2, axis=1)
    centred = features.astype(np.float32)
    centred -= centred.mean(axis=0)
    # How several threads share a product changes its last bits.
    with threadpool_limits(1):
        reduced = centred @ components(centred, COMPONENTS)
    places = tsne.embed(reduced, min(PERPLEXITY, (len(features) - 1) / 3))
    low, wide = places.min(axis=0), (places.max(axis=0) - places.min(axis=0)).max()
    return np.asarray(((places - low) / (wide or 1) * SPAN).round(), np.int64)
