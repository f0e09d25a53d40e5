"""What int8 needs to know of the values inside a backbone: measured once, and kept beside the feature cache."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from stages.backbones import catalogue, zoo
from stages.backend.installed import mxnet_version
from stages.common.caches.folders import cache_folder
from stages.common.disk.documents import Document
from stages.common.errors import InputError
from stages.engines import local
from stages.engines.contract import Work
from stages.features.stored.recipe import Recipe
from stages.inference import calibrate, compile
from stages.inference.calibrate import Calibration, measure

FOLDER = "calibrations"


class _Kept(Document):
    """A file in ``FOLDER``: a calibration as JSON, and the SHA-256 of that."""

    sha256: str
    calibration: str


def calibration(recipe: Recipe, cache: str) -> Calibration:
    """The calibration of the backbone and cut of ``recipe``, with the weights in ``data/weights``.

    Measured, which takes some seconds, unless it is kept in the user's cache folder whole. cache: ``runtime.cache``.
    Raises InputError where the weights are not those of ``recipe``.
    """
    folder = cache_folder(cache)
    if folder is None:
        return _measured(recipe.backbone, recipe.cut, recipe.weights)
    path = folder / FOLDER / f"{_key(recipe)}.json"
    with contextlib.suppress(InputError, ValueError):
        kept = _Kept.load(path)
        if kept.sha256 == _sha256(kept.calibration):
            return Calibration.from_json(kept.calibration)
    found = _measured(recipe.backbone, recipe.cut, recipe.weights)
    # A place that cannot be written is the feature cache's to tell of.
    with contextlib.suppress(OSError):
        _Kept(sha256=digest(found), calibration=found.to_json()).save(path)
    return found


def digest(calibration: Calibration) -> str:
    """The SHA-256 of a calibration, in hexadecimal."""
    return _sha256(calibration.to_json())


def remove(folder: Path) -> None:
    """Removes what is kept in the cache's ``folder``."""
    for path in (folder / FOLDER).glob("*.json"):
        path.unlink(missing_ok=True)


def _key(recipe: Recipe) -> str:
    parts = [recipe.weights, recipe.backbone, recipe.cut, compile.VERSION, calibrate.VERSION, mxnet_version()]
    return _sha256(json.dumps(parts))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# Where nothing is kept on disk, a run still measures once.
@functools.lru_cache(maxsize=1)
def _measured(name: str, cut: str, weights: str) -> Calibration:
    # In a process of its own, which takes several times the memory of the driver along when it ends.
    work = Work(_set_up, chunks=[(name, cut, weights)], count=1, describe=lambda chunk: f"the calibration of {name}")
    ((_, _, found),) = local.engine(["cpu(0)"])(work)
    return found


def _set_up(device: str, threads: int) -> Callable[[tuple[str, str, str]], Callable[[], Calibration]]:
    def start(chunk: tuple[str, str, str]) -> Callable[[], Calibration]:
        name, cut, weights = chunk
        body = zoo.body(zoo.load(name, sha256=weights), cut)
        return lambda: measure(body, catalogue.find(name))

    return start
