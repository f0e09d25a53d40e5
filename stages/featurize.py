"""featurize: every image's feature, from the cache or the backbone, into RecordIO."""

import time

import numpy as np

from stages.common.errors import run
from stages.common import params
from stages.common.files import mapped_array, write_json
from stages.common.layout import FEATURES, IMAGES, METRICS, SUBSETS
from stages.dataset import classes, lists
from stages.features import compute as features
from stages.features import records


def main():
    given = params.load()
    recipe = features.recipe(given.backbone.cut, given.featurize)
    dtype = np.dtype(given.featurize.dtype).newbyteorder("<")
    subsets = {subset: lists.read(subset) for subset in SUBSETS}
    rows = [row for subset in SUBSETS for row in subsets[subset]]
    begun = time.perf_counter()

    FEATURES.mkdir(parents=True, exist_ok=True)
    array, digests, metrics = features.featurize(
        [f"{IMAGES}/{row.path}" for row in rows],
        recipe,
        given.runtime,
        # They come in any order and may not fit into memory.
        allocate=lambda count, dim: mapped_array(dtype, (count, dim), FEATURES),
    )
    start = 0
    for subset in SUBSETS:
        end = start + len(subsets[subset])
        records.write(subset, zip(subsets[subset], digests[start:end], array[start:end]))
        start = end
    about = {
        **recipe._asdict(),
        "dim": array.shape[1],
        "dtype": dtype.name,
        "fingerprint": features.fingerprint(recipe).hex(),
        "classes": classes.read(),
    }
    write_json(records.ABOUT, about)

    seconds = time.perf_counter() - begun
    metrics["seconds"] = seconds
    metrics["images_per_second"] = len(rows) / seconds
    write_json(METRICS / "featurize.json", {name: round(value, 2) for name, value in metrics.items()})
    print("{images} images, {forward_passes} through {0}, {reused} reused".format(recipe.backbone, **metrics))


if __name__ == "__main__":
    run(main)
