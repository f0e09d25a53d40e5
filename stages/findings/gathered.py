"""All images that have features, with what the lists and the manifest say of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.classifier.scores import Labels
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import MANIFEST, SPLIT, SUBSETS
from stages.dataset import classes, lists, manifest
from stages.dataset.sources import table
from stages.dataset.sources.files.places import Place, within
from stages.features.stored import records
from stages.features.stored.records import Features


class Images(NamedTuple):
    """Rows are numbered through all subsets, train, valid, test, in the order of their lists.

    features: of each subset, (n, dim). labels, subsets: (rows,), numbers of classes and of subsets.
    digests: SHA-256 of the bytes. places: where they are, if they are at hand. groups: "" for an image of none.
    classes: their names by label.
    """

    features: list[Features]
    labels: Labels
    subsets: NDArray[np.int64]
    paths: list[str]
    digests: list[bytes]
    places: list[Place]
    groups: list[str]
    classes: list[str]


def taken(subsets: Sequence[Features], rows: NDArray[np.int64]) -> Features:
    """The features of ``rows``, which are numbered through all ``subsets``: (len(rows), dim)."""
    found = np.empty((len(rows), subsets[0].shape[1]), subsets[0].dtype)
    start = 0
    for subset in subsets:
        here = np.flatnonzero((rows >= start) & (rows < start + len(subset)))
        found[here] = subset[rows[here] - start]
        start += len(subset)
    return found


def gather(chosen: params.Dataset) -> Images:
    """Reads what ``featurize``, ``split`` and ``images`` left. Raises InputError where it does not belong together."""
    features, labels, paths = [], [], []
    for subset in SUBSETS:
        rows = lists.read(subset)
        its_features, its_labels = records.read(subset)
        if [row.label for row in rows] != its_labels.tolist():
            raise InputError(f"the features are not those of {SPLIT}/{subset}.lst: run `dvc repro`")
        features.append(its_features)
        labels.append(its_labels)
        paths += [row.path for row in rows]
    listed = manifest.read(MANIFEST)
    rows_of = dict(zip(listed.paths, range(len(listed.paths))))
    missing = [path for path in paths if path not in rows_of]
    if missing:
        raise InputError(f"{MANIFEST} has no {missing[0]}, which {SPLIT} lists: run `dvc repro`")
    found, root = [rows_of[path] for path in paths], table.of(chosen).root(chosen)
    return Images(
        features,
        np.concatenate(labels),
        np.repeat(np.arange(len(SUBSETS)), [len(its) for its in labels]),
        paths,
        [bytes.fromhex(listed.digests[row]) for row in found],
        [within(root, listed.paths[row], listed.sizes[row], listed.offsets[row]) for row in found],
        [listed.groups[row] or "" for row in found],
        classes.read(),
    )
