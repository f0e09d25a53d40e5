"""Which images belong together because they are the same picture: as numbers, and as a table for ``dataset.groups``."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.common.disk.files import replacing
from stages.common.settings.layout import MANIFEST
from stages.dataset import manifest
from stages.dataset.groups import leaders
from stages.findings import finding

# Findings that say of two images that they are the same picture.
PAIRS = ("leak", "conflict", "duplicate")


def together(groups: Sequence[str], sets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each row a number that all rows have that its group or its set binds to it. groups: "" for none."""
    pairs = [(("set", number), ("group", group)) for number, group in zip(sets.tolist(), groups) if group]
    bound = leaders(pairs)
    keys = [bound.get(("set", number), ("set", number)) for number in sets.tolist()]
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def write(path: Path) -> None:
    """Writes to ``path`` a table ``path,group`` in which images that the audit found to be the same share a group.

    Groups that the data set has already are in it too. Raises InputError where there was no audit.
    """
    found = finding.read()
    listed = manifest.read(MANIFEST)
    pairs = [(("path", row.path), ("path", row.other)) for row in found if row.kind in PAIRS]
    pairs += [(("path", name), ("group", group)) for name, group in zip(listed.paths, listed.groups) if group]
    bound = leaders(pairs)
    names: dict[object, str] = {}
    rows = [
        (name, names.setdefault(bound[("path", name)], f"g{len(names) + 1}"))
        for name in listed.paths
        if ("path", name) in bound
    ]
    # As it is, without regard to spreadsheets: this file is read again, and what it names has to be there.
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "group"), *rows])
    print(f"{path}: {len(rows)} images in {len(names)} groups; name it in params.yaml: dataset.groups: {path}")
