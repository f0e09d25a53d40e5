"""Has all machine code made, so that nothing waits for it later: ``python -m stages.compile``; `make setup` does."""

import numpy as np

from stages.classifier import updates
from stages.common.errors import run
from stages.findings import neighbours, tsne
from stages.preprocessing import filling


def main() -> None:
    """Calls each function that is machine code, or imports it."""
    filling.resampler()
    for optimizer, states in updates.STATES.items():
        tiny, rule = np.zeros((2 + states, 1, 1), np.float32), np.zeros(1, np.float32)
        updates.update(optimizer)(tiny[0], tiny[1], tuple(tiny[2:]), rule, rule)
    features = [np.zeros((2, 1), np.float16)]
    neighbours.nearest(features, neighbours.space(features), 1)
    tsne.embed(np.zeros((5, 2), np.float32), 1.0)


if __name__ == "__main__":
    run(main)
