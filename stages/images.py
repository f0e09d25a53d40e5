"""images: the data set as ``data/images/<class>/<file>``, every image known to be readable."""

from collections.abc import Callable
from pathlib import Path

from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import replacing
from stages.common.layout import IMAGES
from stages.dataset import classes
from stages.dataset.sources import caltech256, digits, folder

# By dataset.name: what lays a data set out in an empty folder as <class>/<file>; it returns the class names in the
# order of their labels.
SOURCES: dict[str, Callable[[params.Dataset, Path], list[str]]] = {
    "digits": digits.lay_out,
    "folder": folder.lay_out,
    "caltech256": caltech256.lay_out,
}


def main() -> None:
    chosen = params.load().dataset
    if chosen.name not in SOURCES:
        raise InputError(f"params.yaml: dataset.name: must be one of {', '.join(SOURCES)} (got {chosen.name!r})")
    with replacing(IMAGES, folder=True) as destination:
        names = SOURCES[chosen.name](chosen, destination)
    classes.write(names)


if __name__ == "__main__":
    run(main)
