"""audit: what in the data looks wrong, from the features: labels, leaks, conflicts, duplicates and outliers; a map.

``python -m stages.audit --write-groups FILE`` writes which images belong together, for ``dataset.groups``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.common.errors import run
from stages.common.settings import params
from stages.findings import (
    finding,
    flat,
    folds,
    grouping,
    kinds,
    looking,
    mislabelled,
    neighbours,
    outliers,
    plane,
    twins,
)
from stages.findings.finding import AuditMetrics, Finding
from stages.findings.gathered import Images, gather, taken


def main(arguments: Sequence[str] = ()) -> None:
    """The stage, or with ``--write-groups`` the command."""
    parser = argparse.ArgumentParser(prog="python -m stages.audit", description="Tells what in the data looks wrong.")
    parser.add_argument(
        "--write-groups", metavar="FILE", type=Path, help="write which images belong together, for dataset.groups"
    )
    chosen, given = parser.parse_args(arguments), params.load()
    if chosen.write_groups is not None:
        grouping.write(chosen.write_groups)
    elif given.audit.enabled:
        audit(given)
    else:
        finding.write_none()
        plane.write_none()


def audit(given: params.Params) -> None:
    """Looks at all images, writes what is found, and lays some of them out on a plane."""
    images = gather(given.dataset)
    near = neighbours.nearest(images.features, neighbours.space(images.features), neighbours.NEIGHBOURS)
    alike = twins.find(images, near, given.runtime)
    found = [*kinds.leaks(images, alike), *kinds.conflicts(images, alike), *kinds.duplicates(images, alike)]
    found += kinds.outliers(images, outliers.outliers(images.features, images.labels, len(images.classes)))
    found += _labels(images, alike)
    finding.write(found, images.classes)
    metrics = AuditMetrics.of(found, len(images.paths), alike.unconfirmed)
    metrics.save(finding.COUNTS)
    print(f"{metrics.images} images: " + ", ".join(f"{getattr(metrics, kind)} {kind}" for kind in finding.KINDS))
    if alike.unconfirmed:
        print(
            f"{alike.unconfirmed} more pairs have like features, but their images are not at hand to be compared: "
            "where they are, run `dvc repro -f audit`"
        )
    _map(images, given.runtime)


def _labels(images: Images, alike: twins.Twins) -> list[Finding]:
    fold = folds.deal(images.labels, grouping.together(images.groups, alike.sets))
    probabilities = folds.out_of_fold(images.features, images.labels, fold, len(images.classes))
    known = mislabelled.known(probabilities, images.labels)
    if known < mislabelled.JUDGES:
        print(f"labels are not judged: heads know the class of {known:.0%} of the images that they have not seen")
        return []
    doubts = mislabelled.doubts(probabilities, images.labels)
    return list(kinds.labels(images, doubts, mislabelled.typical(probabilities, images.labels)))


def _map(images: Images, runtime: params.Runtime) -> None:
    rows = flat.chosen(images.digests)
    x, y = flat.flat(taken(images.features, rows)).T.tolist()
    seen = looking.look([images.places[row] for row in rows], [images.digests[row] for row in rows], runtime)
    seen.sketches[seen.sides == 0] = 128
    paths, labels = [images.paths[row] for row in rows], images.labels[rows].tolist()
    plane.write(plane.Map(paths=paths, labels=labels, x=x, y=y), seen.sketches)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
