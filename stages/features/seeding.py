"""Fills the feature cache from records that others computed and DVC has brought here."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import FEATURES, MANIFEST, SUBSETS
from stages.dataset import manifest
from stages.features.compute import cached
from stages.features.database import TRANSACTION
from stages.features.identity import fingerprint
from stages.features.stored import records
from stages.features.stored.recipe import Recipe
from stages.features.stored.records import ABOUT, FeaturesInfo

# Where DVC keeps the files that it has of the outputs in dvc.lock; its documentation describes both.
DVC_LOCK, DVC_CACHE = Path("dvc.lock"), Path(".dvc/cache/files/md5")


class Seeded(NamedTuple):
    """features: how many ``data/features`` has. new: how many the cache did not have.
    unknown: how many are of images that the manifest does not list.
    """

    features: int
    new: int
    unknown: int


def seed(runtime: params.Runtime) -> Seeded:
    """Puts what ``data/features`` holds into the feature cache, with its dtype; what is there already stays.

    runtime: that section of the params. Raises InputError where the records are damaged, or would not be the features
    computed here; and where the manifest is not as ``images`` left it.
    """
    if not ABOUT.is_file():
        raise InputError(f"there is nothing in {FEATURES} to take over: `dvc pull` fetches what others computed")
    _, about = records.checked(SUBSETS[0])
    if fingerprint(about.recipe).hex() != about.fingerprint:
        raise InputError(
            f"{FEATURES} was made with other versions of headstart or its libraries, so features computed here would "
            "not be the same: `make setup` installs those of constraints.txt"
        )
    whole = _by_beginning(manifest.read(MANIFEST).digests)
    count = new = unknown = 0
    with contextlib.closing(cached(about.recipe, runtime)) as cache:
        for begun, features in (block for subset in SUBSETS for block in records.read_digests(subset)):
            found = [row for row, beginning in enumerate(begun) if beginning in whole]
            digests = [whole[begun[row]] for row in found]
            held = cache.get(digests, features.dtype)
            missing = [i for i, feature in enumerate(held) if feature is None]
            for some in (missing[start : start + TRANSACTION] for start in range(0, len(missing), TRANSACTION)):
                cache.put([digests[i] for i in some], features[[found[i] for i in some]])
            count += len(begun)
            new += len(missing)
            unknown += len(begun) - len(found)
        if not cache.usable:
            raise InputError("the feature cache cannot be used, so there is nowhere to put them")
    return Seeded(count, new, unknown)


def would_help(recipe: Recipe, dtype: str, digests: Sequence[bytes], runtime: params.Runtime) -> bool:
    """Whether DVC has features by ``recipe`` here, of ``dtype``, while the cache has none of the images ``digests``."""
    path = _kept_by_dvc(ABOUT)
    if path is None:
        return False
    try:
        about = FeaturesInfo.load(path)
    except InputError:
        return False
    if about.fingerprint != fingerprint(recipe).hex() or about.dtype != dtype:
        return False
    with contextlib.closing(cached(recipe, runtime)) as cache:
        return cache.usable and not any(feature is not None for feature in cache.get(digests[:TRANSACTION], dtype))


def _by_beginning(digests: Sequence[str]) -> dict[bytes, bytes]:
    """{first 8 bytes: digest}, without those that two digests share."""
    whole: dict[bytes, bytes] = {}
    shared = set()
    for digest in map(bytes.fromhex, digests):
        if whole.setdefault(digest[:8], digest) != digest:
            shared.add(digest[:8])
    return {beginning: digest for beginning, digest in whole.items() if beginning not in shared}


def _kept_by_dvc(output: Path) -> Any:
    """The file in DVC's cache that dvc.lock has for ``output`` of featurize; None where there is none."""
    try:
        lock = yaml.load(DVC_LOCK.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        outputs = {out["path"]: out["md5"] for out in lock["stages"]["featurize"]["outs"]}
        md5 = outputs[str(output)]
        path = DVC_CACHE / md5[:2] / md5[2:]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return None
    return path if path.is_file() else None
