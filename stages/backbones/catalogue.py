"""The backbones headstart knows: what they are called, how each wants its pixels, where it can be cut.

Plain data, without MXNet; ``zoo`` builds the networks named here.
"""

import difflib
from dataclasses import dataclass

from stages.common.errors import InputError

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """One ImageNet classifier and the preprocessing its weights were trained with.

    family: the architecture, of which this is one size.
    size: side of the square input, in pixels.
    crop: side of the centre crop as a share of the image's shorter side.
    mean, std: per channel (RGB), for pixel values scaled to [0, 1].
    interpolation: "bilinear" or "bicubic", antialiased.
    depthwise: whether it has convolutions of each channel by itself.
    cuts: where it can be cut (see ``zoo.cut_layers``), deepest first.
    """

    name: str
    family: str
    size: int = 224
    crop: float = 224 / 256
    mean: Channels = (0.485, 0.456, 0.406)
    std: Channels = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    depthwise: bool = False
    cuts: tuple[str, ...] = ("pool",)


def _lite(name: str, size: int) -> Backbone:
    # Centre crop of size / (size + 32) of the shorter side, bicubic, pixels in [-1, 1]: how timm, which converted
    # these weights from TensorFlow, evaluates them (tf_efficientnet_lite0 to 2: crop_pct 0.875, 0.882, 0.890).
    half = (0.5, 0.5, 0.5)
    return Backbone(name, "efficientnet_lite", size, size / (size + 32), half, half, "bicubic", depthwise=True)


# Shorter side to 256, centre crop of 224, bilinear, ImageNet's mean and standard deviation:
# the evaluation transform of the Gluon model zoo (gluon.mxnet.io and GluonCV's verify_pretrained.py).
_ZOO = {
    "densenet": ("121", "161", "169", "201"),
    "mobilenet": ("0.25", "0.5", "0.75", "1.0"),
    "mobilenetv2": ("_0.25", "_0.5", "_0.75", "_1.0"),
    "resnet": tuple(f"{depth}_{version}" for depth in (18, 34, 50, 101, 152) for version in ("v1", "v2")),
    "squeezenet": ("1.0", "1.1"),
}
# With dense layers before the output.
_ZOO_DENSE = {
    "alexnet": ("",),
    "vgg": tuple(f"{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
}

BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _lite("efficientnet_lite0", 224),
        _lite("efficientnet_lite1", 240),
        _lite("efficientnet_lite2", 260),
        *(
            Backbone(family + variant, family, depthwise=family.startswith("mobilenet"))
            for family, variants in _ZOO.items()
            for variant in variants
        ),
        *(
            Backbone(family + variant, family, cuts=("fc6", "conv"))
            for family, variants in _ZOO_DENSE.items()
            for variant in variants
        ),
        Backbone("inceptionv3", "inception", size=299, crop=299 / 342),
    )
}


def find(name: str) -> Backbone:
    """The backbone that ``backbone.name`` in params.yaml names. Raises InputError where there is none of that name."""
    if name not in BACKBONES:
        near = difflib.get_close_matches(name, BACKBONES, n=3) or sorted(BACKBONES)
        raise InputError(f"params.yaml: backbone.name: there is no backbone {name!r}; there is {', '.join(near)}")
    return BACKBONES[name]


def cut_of(backbone: Backbone, cut: str) -> str:
    """The one of ``backbone.cuts`` that ``backbone.cut`` in params.yaml names; "auto" is the deepest.

    Raises InputError where the backbone cannot be cut there.
    """
    if cut == "auto":
        return backbone.cuts[0]
    if cut not in backbone.cuts:
        cuts = " or ".join(("auto", *backbone.cuts))
        raise InputError(f"params.yaml: backbone: cut of {backbone.name} must be {cuts} (got {cut!r})")
    return cut
