"""Looks into the feature cache and the index of image files beside it, and fills it: ``python -m stages.cache``."""

import argparse
import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from stages.common.caches.folders import CACHE_VARIABLE, cache_folder
from stages.common.caches.sqlite import ERRORS, is_busy, is_damage, remove, size_on_disk
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.dataset.sources.files import index
from stages.features import calibrations, seeding
from stages.features.database import FILE, Database


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """The command ``python -m stages.cache``."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.cache",
        description="Look into the feature cache, and the index of image files beside it.",
    )
    actions = parser.add_subparsers(dest="action", metavar="show | seed | verify | prune | clear")
    actions.add_parser(
        "show",
        help="where it is, how large, how many features of which backbone, how many files are known (the default)",
    )
    actions.add_parser("seed", help="take over the features in data/features, after `dvc pull` for instance")
    actions.add_parser("verify", help="read every entry and drop those that are damaged")
    prune = actions.add_parser(
        "prune",
        help="drop what was used least recently until it is small enough, and from the index the files that are gone",
    )
    prune.add_argument("gb", type=_gigabytes, help="the size to shrink to, in gigabytes")
    actions.add_parser("clear", help="drop everything")
    chosen = parser.parse_args(arguments)

    runtime = params.load().runtime
    folder = cache_folder(runtime.cache)
    if folder is None:
        raise InputError(f"the feature cache is off (runtime.cache or ${CACHE_VARIABLE})")
    if chosen.action == "clear":
        lines = _clear(folder)
    elif chosen.action == "seed":
        lines = _seed(runtime)
    else:
        try:
            with contextlib.closing(Database(folder, runtime.cache_gb)) as database:
                lines = list(_ACTIONS[chosen.action or "show"](database, folder, chosen))
        except ERRORS as error:
            raise InputError(f"the feature cache {folder / FILE} cannot be read ({error}){_remedy(error)}") from None
    # Printed here, as what goes wrong in printing is no fault of the cache.
    for line in lines:
        print(line)


def _remedy(error: Exception) -> str:
    if is_damage(error):
        return "; `python -m stages.cache clear` removes it"
    return "; run it again" if is_busy(error) else "; look whether there is room, and the right to write"


def _gigabytes(text: str) -> float:
    with contextlib.suppress(ValueError):
        gigabytes = float(text)
        if math.isfinite(gigabytes) and gigabytes >= 0:
            return gigabytes
    raise argparse.ArgumentTypeError(f"must be a number from 0 (got {text!r})")


def _show(database: Database, folder: Path, chosen: argparse.Namespace) -> Iterator[str]:
    yield f"{folder}: {database.size / 1e9:.3f} GB of at most {database.limit / 1e9:.1f} GB"
    for fingerprint, count, about in database.counts():
        yield f"{count:>10,}  {fingerprint.hex()[:12]}  {about}"
    with contextlib.closing(index.Index(folder)) as known:
        if count := known.count():
            yield f"{count:>10,}  image files known without reading them"


def _seed(runtime: params.Runtime) -> list[str]:
    count, new, unknown = seeding.seed(runtime)
    note = f", {unknown:,} of images that the manifest does not list left out" if unknown else ""
    return [f"{count:,} features in data/features, {new:,} of them new in the feature cache{note}"]


def _verify(database: Database, folder: Path, chosen: argparse.Namespace) -> Iterator[str]:
    count, damaged = database.verify()
    yield f"{count:,} entries read, {damaged:,} damaged and dropped"


def _prune(database: Database, folder: Path, chosen: argparse.Namespace) -> Iterator[str]:
    before = database.size
    database.prune(chosen.gb * 1e9)
    yield f"{before / 1e9:.3f} GB → {database.size / 1e9:.3f} GB"
    with contextlib.closing(index.Index(folder)) as known:
        if count := known.prune():
            yield f"dropped from the index: {count:,} files that are gone or have changed"


_ACTIONS = {"show": _show, "verify": _verify, "prune": _prune}


def _clear(folder: Path) -> list[str]:
    """Removes what is there, unread: it may be damaged in any way."""
    size = sum(size_on_disk(folder / name) for name in (FILE, index.FILE))
    remove(folder / FILE)
    remove(folder / index.FILE)
    calibrations.remove(folder)
    return [f"dropped {size / 1e9:.3f} GB"]


if __name__ == "__main__":
    run(main)
