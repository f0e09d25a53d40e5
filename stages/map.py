"""map: the features on a plane, for the report: what is alike lies together."""

import numpy as np

from stages.common import params
from stages.common.errors import run
from stages.findings import flat, looking
from stages.findings.flat import Map
from stages.findings.gathered import gather, taken
from stages.findings.sketches import SIDE


def main() -> None:
    """The stage."""
    given = params.load()
    if not given.audit.enabled:
        flat.save(Map(paths=[], labels=[], x=[], y=[]), np.zeros((0, SIDE, SIDE, 3), np.uint8))
        return
    images = gather(given.dataset)
    rows = flat.chosen(images.digests)
    x, y = flat.flat(taken(images.features, rows)).T.tolist()
    seen = looking.look([images.places[row] for row in rows], [images.digests[row] for row in rows], given.runtime)
    seen.sketches[seen.sides == 0] = 128
    paths, labels = [images.paths[row] for row in rows], images.labels[rows].tolist()
    flat.save(Map(paths=paths, labels=labels, x=x, y=y), seen.sketches)
    print(f"{len(rows)} images on the map" + (f" of {len(images.paths)}" if len(rows) < len(images.paths) else ""))


if __name__ == "__main__":
    run(main)
