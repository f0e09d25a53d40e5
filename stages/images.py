"""images: looks at the data set where it lies and writes down what is there, a row for each image."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal, Optional

from stages.backbones import catalogue
from stages.common.caches.folders import cache_folder
from stages.common.collector import without_collector
from stages.common.disk import sums
from stages.common.disk.documents import Document
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.common.settings.layout import CLASSES, MANIFEST, ORIGIN
from stages.dataset import classes, group_file, looking, manifest
from stages.dataset.sources import table
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.stores import Away
from stages.dataset.sources.source import Listing


class Origin(Document):
    """data/dataset.json: which data set the manifest is of; see ``dataset`` in params.yaml."""

    name: str
    path: str
    clutter: bool
    groups: Optional[str]


@without_collector()
def main() -> None:
    given = params.load()
    # Said by the first stage of all: before another one runs, DVC removes what it wrote.
    catalogue.cut_of(catalogue.find(given.backbone.name), given.backbone.cut)
    chosen = given.dataset
    source = table.of(chosen)
    origin = Origin(name=chosen.name, path=chosen.path, clutter=chosen.clutter, groups=chosen.groups)
    missing = source.missing(chosen)
    if missing is not None and recorded(origin):
        print(f"{missing} is not there: going on with what {MANIFEST} recorded of it")
        return
    with closing(Index(cache_folder(given.runtime.cache))) as index:
        try:
            listing = source.find(chosen, index)
        except Away as error:
            if not recorded(origin):
                raise
            print(f"{error}: going on with what {MANIFEST} recorded of it")
            return
        if chosen.groups is not None:
            grouped = group_file.added(listing.images, group_file.read(Path(chosen.groups)), chosen.groups)
            listing = listing._replace(images=grouped)
        seen = looking.look([image.place for image in listing.images], index, listing.versions)
    rows = good(listing, seen, chosen.on_bad_image)
    names = checked(listing.classes, rows, source.root(chosen))
    bad = len(listing.images) - len(rows)
    print(f"{chosen.name}: {len(rows)} images of {len(names)} classes" + (f", {bad} skipped" if bad else ""))
    # Written last, it vouches for the other two.
    ORIGIN.unlink(missing_ok=True)
    manifest.write(MANIFEST, sorted(rows, key=lambda row: manifest.order(row.path)))
    classes.write(names)
    origin.save(ORIGIN)


def recorded(origin: Origin) -> bool:
    """Whether what an earlier look wrote down is all there and whole, and of this data set."""
    with suppress(InputError):
        for path in (MANIFEST, CLASSES):
            sums.check([path])
        return Origin.load(ORIGIN) == origin
    return False


def good(listing: Listing, seen: Sequence[looking.Seen], on_bad_image: Literal["fail", "skip"]) -> list[manifest.Row]:
    """The rows of those images that can be read.

    The others are printed with ``on_bad_image`` "skip"; else the first raises InputError.
    """
    rows, complaints = [], []
    for (path, name, place, complaint, group, split), found in zip(listing.images, seen):
        if complaint is None and found.complaint is not None:
            complaint = f"{place.name} {found.complaint}"
        if complaint is None:
            offset = None if place.size is None else place.offset
            rows.append(manifest.Row(path, name, found.sha256, found.size, offset, group, split))
        else:
            complaints.append(complaint)
    if complaints and on_bad_image == "fail":
        more = f" (and {len(complaints) - 1} more like it)" if len(complaints) > 1 else ""
        raise InputError(f"{complaints[0]}{more}; mend or remove it, or set dataset.on_bad_image: skip")
    for complaint in complaints:
        print(f"skipped: {complaint}")
    return rows


def checked(names: list[str], rows: Sequence[manifest.Row], place: str) -> list[str]:
    """``names``. Raises InputError where one of these classes has no image, or there are fewer than two."""
    counts = Counter(row.class_name for row in rows)
    empty = [name for name in names if not counts[name]]
    if empty:
        raise InputError(f"class {empty[0]!r} in {place} holds no image: add some or remove the class")
    if len(names) < 2:
        raise InputError(f"{place} holds one class ({names[0]}): there is nothing to tell apart, add a second one")
    return names


if __name__ == "__main__":
    run(main)
