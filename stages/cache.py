"""Looks into the feature cache and the index of image files beside it, and fills it: ``python -m stages.cache``."""

import argparse
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from stages.common import params
from stages.common.caches import CACHE_VARIABLE, cache_folder
from stages.common.errors import InputError, run
from stages.common.sqlite import ERRORS, is_damage, plain, remove
from stages.dataset import index
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
        _clear(folder)
        return
    if chosen.action == "seed":
        _seed(runtime)
        return
    try:
        with contextlib.closing(Database(folder, runtime.cache_gb)) as database:
            if chosen.action == "verify":
                _verify(database)
            elif chosen.action == "prune":
                _prune(database, chosen.gb, folder)
            else:
                _show(database, folder)
    except ERRORS as error:
        remedy = "; `python -m stages.cache clear` removes it" if is_damage(error) else ""
        raise InputError(f"the feature cache {folder / FILE} cannot be read ({plain(str(error))}){remedy}") from None


def _gigabytes(text: str) -> float:
    with contextlib.suppress(ValueError):
        gigabytes = float(text)
        if math.isfinite(gigabytes) and gigabytes >= 0:
            return gigabytes
    raise argparse.ArgumentTypeError(f"must be a number from 0 (got {text!r})")


def _show(database: Database, folder: Path) -> None:
    print(f"{folder}: {database.size / 1e9:.3f} GB of at most {database.limit / 1e9:.1f} GB")
    for fingerprint, count, about in database.counts():
        print(f"{count:>10,}  {fingerprint.hex()[:12]}  {about}")
    with contextlib.closing(index.Index(folder)) as known:
        if count := known.count():
            print(f"{count:>10,}  image files known without reading them")


def _seed(runtime: params.Runtime) -> None:
    count, new, unknown = seeding.seed(runtime)
    note = f", {unknown:,} of images that the manifest does not list left out" if unknown else ""
    print(f"{count:,} features in data/features, {new:,} of them new in the feature cache{note}")


def _verify(database: Database) -> None:
    count, damaged = database.verify()
    print(f"{count:,} entries read, {damaged:,} damaged and dropped")


def _prune(database: Database, gigabytes: float, folder: Path) -> None:
    before = database.size
    database.prune(gigabytes * 1e9)
    print(f"{before / 1e9:.3f} GB → {database.size / 1e9:.3f} GB")
    with contextlib.closing(index.Index(folder)) as known:
        if count := known.prune():
            print(f"dropped from the index: {count:,} files that are gone or have changed")


def _clear(folder: Path) -> None:
    what = "what could not be read"
    with contextlib.suppress(*ERRORS), contextlib.closing(Database(folder)) as database:
        what = f"{database.count():,} features"
    remove(folder / FILE)
    remove(folder / index.FILE)
    calibrations.remove(folder)
    print(f"dropped {what}")


if __name__ == "__main__":
    run(main)
