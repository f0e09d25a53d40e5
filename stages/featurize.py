"""featurize: every image's feature, from the cache or the backbone, into RecordIO."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backend import cpu
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.common.settings.layout import FEATURES, MANIFEST, SPLIT, SUBSETS
from stages.dataset import classes, lists, manifest
from stages.dataset.sources import table
from stages.dataset.sources.files.places import Place, within
from stages.features import identity, seeding
from stages.features.compute import Computed, compute
from stages.features.stored import records
from stages.features.stored.mapped import mapped_array
from stages.features.stored.records import FeaturesInfo, Work


def main() -> None:
    """The stage."""
    given = params.load()
    recipe = identity.current(given.backbone.cut, given.featurize, given.runtime.cache)
    dtype = np.dtype(given.featurize.dtype).newbyteorder("<")
    subsets = {subset: lists.read(subset) for subset in SUBSETS}
    places, digests = located([row.path for rows in subsets.values() for row in rows], given.dataset)
    if seeding.would_help(recipe, given.featurize.dtype, digests, given.runtime):
        print(
            "note: DVC has these features and your feature cache has not: to compute only those of new images, stop "
            "this (Ctrl-C), then `dvc checkout` and `python -m stages.cache seed`",
            file=sys.stderr,
        )
    begun = time.perf_counter()

    FEATURES.mkdir(parents=True, exist_ok=True)

    def allocate(count: int, dim: int) -> NDArray[Any]:
        # They come in any order and may not fit into memory.
        return mapped_array(dtype, (count, dim), FEATURES)

    computed = compute(places, recipe, given.runtime, allocate, known=digests)
    FeaturesInfo(
        **recipe._asdict(),
        dim=computed.features.shape[1],
        dtype=given.featurize.dtype,
        fingerprint=identity.fingerprint(recipe).hex(),
        cpu=cpu.best(),
        classes=classes.read(),
    ).save(records.ABOUT)
    begin = 0
    for subset, rows in subsets.items():
        end = begin + len(rows)
        records.write(subset, rows, digests[begin:end], computed.features[begin:end])
        begin = end

    work = _work(computed, time.perf_counter() - begun)
    work.save(records.WORK)
    print(f"{work.images} images, {work.forward_passes} through {recipe.backbone}, {work.reused} reused")


def located(paths: Sequence[str], chosen: params.Dataset) -> tuple[list[Place], list[bytes]]:
    """Where the images at ``paths`` of the data set are, and the digests that the manifest has of them.

    Raises InputError for one that the manifest does not have.
    """
    images, root = manifest.read(MANIFEST), table.of(chosen).root(chosen)
    rows = {path: row for row, path in enumerate(images.paths)}
    missing = next((path for path in paths if path not in rows), None)
    if missing is not None:
        raise InputError(f"{MANIFEST} has no {missing}, which {SPLIT} lists: run `dvc repro`")
    wanted = [rows[path] for path in paths]
    places = [within(root, images.paths[row], images.sizes[row], images.offsets[row]) for row in wanted]
    return places, [bytes.fromhex(images.digests[row]) for row in wanted]


def _work(computed: Computed, seconds: float) -> Work:
    spent = computed.seconds
    return Work(
        forward_passes=computed.forward_passes,
        reused=len(computed.digests) - computed.forward_passes,
        seconds=round(seconds, 2),
        workers=len(computed.workers),
        nodes=len({worker.node for worker in computed.workers}),
        shipped=computed.shipped,
        seconds_read=round(spent.read, 2),
        seconds_cache=round(spent.cache, 2),
        seconds_decode=round(spent.decode, 2),
        seconds_forward=round(spent.forward, 2),
    )


if __name__ == "__main__":
    run(main)
