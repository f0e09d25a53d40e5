"""The backbones headstart knows: what they are called, how each wants its pixels, where it can be cut.

Plain data, without MXNet; the module of its family (``families``) builds a network named here.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from stages.common.errors import InputError

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """One pretrained network and the preprocessing its weights were trained with.

    family: the architecture, of which this is one size; in ``families.table`` its module.
    cuts: where it can be cut (see ``zoo.cut_layers``), deepest first, each with the length of the feature there.
    size: side of the square input, in pixels.
    crop: side of the centre crop as a share of the image's shorter side.
    mean, std: per channel (RGB), for pixel values scaled to [0, 1].
    interpolation: "bilinear" or "bicubic", antialiased.
    depthwise: whether it has convolutions of each channel by itself.
    """

    name: str
    family: str
    cuts: Mapping[str, int]
    size: int = 224
    crop: float = 224 / 256
    mean: Channels = (0.485, 0.456, 0.406)
    std: Channels = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    depthwise: bool = False


def _lite(name: str, size: int) -> Backbone:
    # Centre crop of size / (size + 32) of the shorter side, bicubic, pixels in [-1, 1]: how timm, which converted
    # these weights from TensorFlow, evaluates them (tf_efficientnet_lite0 to 2: crop_pct 0.875, 0.882, 0.890).
    half = (0.5, 0.5, 0.5)
    crop = size / (size + 32)
    return Backbone(name, "efficientnet_lite", {"pool": 1280}, size, crop, half, half, "bicubic", depthwise=True)


def _vit(name: str, width: int) -> Backbone:
    # timm's data configuration of the weights called augreg: crop_pct 0.9, of which it makes floor(224 / 0.9) pixels.
    half = (0.5, 0.5, 0.5)
    return Backbone(name, "vit", {"pool": width}, 224, 224 / 248, mean=half, std=half, interpolation="bicubic")


def _dinov2(name: str, width: int) -> Backbone:
    # make_classification_eval_transform in DINOv2's repository (dinov2/data/transforms.py).
    return Backbone(name, "vit", {"pool": width}, interpolation="bicubic")


def _clip(name: str) -> Backbone:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return Backbone(name, "clip", {"pool": 512}, 224, 1.0, mean=mean, std=std, interpolation="bicubic")


# Shorter side to 256, centre crop of 224, bilinear, ImageNet's mean and standard deviation:
# the evaluation transform of the Gluon model zoo (gluon.mxnet.io and GluonCV's verify_pretrained.py).
# By architecture: each size, and the length of its feature.
_ZOO = {
    "densenet": {"121": 1024, "161": 2208, "169": 1664, "201": 1920},
    "mobilenet": {"0.25": 256, "0.5": 512, "0.75": 768, "1.0": 1024},
    "mobilenetv2": dict.fromkeys(("_0.25", "_0.5", "_0.75", "_1.0"), 1280),
    "resnet": {
        f"{depth}_{version}": 512 if depth < 50 else 2048
        for depth in (18, 34, 50, 101, 152)
        for version in ("v1", "v2")
    },
    "squeezenet": {"1.0": 512, "1.1": 512},
}
# With dense layers before the output: each size, and how many numbers leave the convolutions.
_ZOO_DENSE = {
    "alexnet": {"": 256 * 6 * 6},
    "vgg": {f"{depth}{norm}": 512 * 7 * 7 for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
}
# Of vision transformers: how many numbers a token is.
_WIDTHS = {"small": 384, "base": 768}

BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _lite("efficientnet_lite0", 224),
        _lite("efficientnet_lite1", 240),
        _lite("efficientnet_lite2", 260),
        *(
            Backbone(architecture + size, "gluon_zoo", {"pool": length}, depthwise=architecture.startswith("mobilenet"))
            for architecture, sizes in _ZOO.items()
            for size, length in sizes.items()
        ),
        *(
            Backbone(architecture + size, "gluon_zoo", {"fc6": 4096, "conv": length})
            for architecture, sizes in _ZOO_DENSE.items()
            for size, length in sizes.items()
        ),
        *(_vit(f"vit_{size}_patch16_224", width) for size, width in _WIDTHS.items()),
        *(
            _dinov2(f"vit_{size}_patch14_{registers}dinov2", width)
            for size, width in _WIDTHS.items()
            for registers in ("", "reg4_")
        ),
        *(_clip(f"clip_vit_b{patch}{activation}") for patch in (32, 16) for activation in ("", "_quickgelu")),
        Backbone("inceptionv3", "gluon_zoo", {"pool": 2048}, size=299, crop=299 / 342),
    )
}


def find(name: str) -> Backbone:
    """The backbone that ``backbone.name`` in params.yaml names. Raises InputError where there is none of that name."""
    if name not in BACKBONES:
        near = difflib.get_close_matches(name, BACKBONES, n=3) or sorted(BACKBONES)
        raise InputError(f"params.yaml: backbone.name: there is no backbone {name[:80]!r}; there is {', '.join(near)}")
    return BACKBONES[name]


def cut_of(backbone: Backbone, cut: str) -> str:
    """The one of ``backbone.cuts`` that ``backbone.cut`` in params.yaml names; "auto" is the deepest.

    Raises InputError where the backbone cannot be cut there.
    """
    if cut == "auto":
        return next(iter(backbone.cuts))
    if cut not in backbone.cuts:
        cuts = " or ".join(("auto", *backbone.cuts))
        raise InputError(f"params.yaml: backbone: cut of {backbone.name} must be {cuts} (got {cut[:80]!r})")
    return cut
