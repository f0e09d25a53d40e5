"""The sources of images by name. Another one is a module beside these and a line here."""

from stages.common.errors import InputError
from stages.common.settings.params import Dataset
from stages.dataset.sources import caltech256, digits, folder, list_file, shards
from stages.dataset.sources.source import Source

# By dataset.name.
SOURCES: dict[str, Source] = {
    "digits": digits.SOURCE,
    "folder": folder.SOURCE,
    "list": list_file.SOURCE,
    "shards": shards.SOURCE,
    "caltech256": caltech256.SOURCE,
}


def of(chosen: Dataset) -> Source:
    """The source of the data set that the params name. Raises InputError where there is no such source."""
    if chosen.name not in SOURCES:
        raise InputError(f"params.yaml: dataset.name: must be one of {', '.join(SOURCES)} (got {chosen.name!r})")
    return SOURCES[chosen.name]
