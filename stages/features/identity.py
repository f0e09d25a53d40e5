"""Which recipe features are made by here, and the bytes that stand for it."""

import hashlib
import json

import PIL.features

from stages.backbones import catalogue, parameters
from stages.backend.installed import mxnet_version
from stages.common.settings import params
from stages.dataset.sources.files import decode
from stages.features import calibrations
from stages.features.stored.recipe import Recipe
from stages.inference import compile
from stages.preprocessing import pixels

# Raised whenever the same image and weights would give other features than before for a reason not listed below.
FORMAT = 1


def current(cut: str, featurize: params.Featurize, cache: str) -> Recipe:
    """The recipe for the backbone in ``data/weights``.

    cut, featurize, cache: ``backbone.cut``, that section and ``runtime.cache`` of the params. For int8 the backbone is
    calibrated first, unless it has been. Raises InputError where data/weights is not whole, or cannot be cut there.
    """
    weights = parameters.check()
    cut = catalogue.cut_of(catalogue.find(weights.backbone), cut)
    recipe = Recipe(weights.backbone, cut, featurize.resize, featurize.precision, weights.sha256, "")
    return calibrated(recipe, cache)


def calibrated(recipe: Recipe, cache: str) -> Recipe:
    """``recipe`` with the calibration that its backbone has on this machine, where it needs one.

    On another machine it may differ in the last digits.
    """
    if recipe.precision != "int8":
        return recipe
    return recipe._replace(calibration=calibrations.digest(calibrations.calibration(recipe, cache)))


def fingerprint(recipe: Recipe) -> bytes:
    """SHA-256 over all that determines a feature: the recipe, the preprocessing, and the libraries' versions."""
    backbone = catalogue.BACKBONES[recipe.backbone]
    preprocessing = ["size", "crop", "mean", "std", "interpolation", "depthwise"]
    # A crop exactly in the centre was the only one once; what was computed then stays known.
    preprocessing += ["resized"] if backbone.resized else []
    decoders = {name: PIL.features.version(name) for name in ("pil", "jpg", "zlib", "webp")}
    parts = {
        "format": [FORMAT, decode.VERSION, pixels.VERSION, compile.VERSION],
        "recipe": recipe._asdict(),
        # Where else the backbone could be cut, say, makes no difference.
        "preprocessing": {name: getattr(backbone, name) for name in preprocessing},
        "libraries": {"mxnet": mxnet_version(), **decoders},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
