"""The backbones headstart knows: what they are called, how each wants its pixels, where it can be cut.

Plain data, without MXNet; the module of its family (``families``) builds a network named here.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.common.errors import InputError

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """One pretrained network and the preprocessing its weights were trained with.

    family: the architecture, of which this is one size; in ``families.table`` its module.
    cuts: where it can be cut (see ``zoo.cut_layers``), deepest first, each with the length of the feature there.
    size: side of the square input, in pixels.
    crop: side of the centre crop as a share of the image's shorter side.
    resized: to how many pixels that side is resized before a crop at whole pixels, as torchvision's transforms do;
    0 where the crop is exactly in the centre.
    mean, std: per channel (RGB), for pixel values scaled to [0, 1].
    interpolation: "bilinear" or "bicubic", antialiased.
    depthwise: whether it has convolutions of each channel by itself.
    int8: whether its features can be computed in 8-bit integers.
    """

    name: str
    family: str
    cuts: Mapping[str, int]
    size: int = 224
    crop: float = 224 / 256
    resized: int = 0
    mean: Channels = (0.485, 0.456, 0.406)
    std: Channels = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    depthwise: bool = False
    int8: bool = True


_HALF: Channels = (0.5, 0.5, 0.5)


def _lite(name: str, size: int) -> Backbone:
    # Centre crop of size / (size + 32) of the shorter side, bicubic, pixels in [-1, 1]: how timm, which converted
    # these weights from TensorFlow, evaluates them (tf_efficientnet_lite0 to 2: crop_pct 0.875, 0.882, 0.890).
    crop = size / (size + 32)
    return Backbone(
        name, "efficientnet_lite", {"pool": 1280}, size, crop, 0, _HALF, _HALF, interpolation="bicubic", depthwise=True
    )


def _torchvision(name: str, family: str, dim: int, **others: Any) -> Backbone:
    # How torchvision evaluates its weights `IMAGENET1K_V1`: the shorter side to 256, bilinear.
    return Backbone(name, family, {"pool": dim}, 224, 224 / 256, 256, **others)


def _timm(name: str, family: str, dim: int, size: int = 224, resized: int = 256, **others: Any) -> Backbone:
    # How timm evaluates the weights that it takes by this name (its `default_cfg`): the shorter side to
    # floor(size / crop_pct), bicubic.
    others = {"interpolation": "bicubic", "depthwise": True, "int8": False, **others}
    return Backbone(name, family, {"pool": dim}, size, size / resized, resized, **others)


def _vit(name: str, width: int) -> Backbone:
    return _timm(name, "vit", width, 224, 248, mean=_HALF, std=_HALF, depthwise=False)


def _dinov2(name: str, width: int) -> Backbone:
    # make_classification_eval_transform in DINOv2's repository (dinov2/data/transforms.py).
    return _timm(name, "vit", width, 224, 256, depthwise=False)


def _clip(name: str) -> Backbone:
    # OpenCLIP's image_transform, for evaluation.
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return _timm(name, "clip", 512, 224, 224, mean=mean, std=std, depthwise=False)


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
        *(_torchvision(name, "resnet", 512) for name in ("resnet18", "resnet34")),
        *(_torchvision(name, "resnet", 2048) for name in ("resnet50", "resnet101", "wide_resnet50_2")),
        _torchvision("mobilenet_v3_large", "mobilenetv3", 1280, depthwise=True, int8=False),
        _timm("mobilenetv3_large_100", "mobilenetv3", 1280),
        _timm("efficientnet_b0", "efficientnet", 1280),
        _timm("efficientnet_b1", "efficientnet", 1280, 240, 266, mean=_HALF, std=_HALF),
        _timm("efficientnet_b1.ft_in1k", "efficientnet", 1280),
        _timm("efficientnet_b2", "efficientnet", 1408, 256, 292),
        _timm("tf_efficientnet_b0", "efficientnet", 1280),
        _timm("tf_efficientnet_b1", "efficientnet", 1280, 240, 272),
        _timm("tf_efficientnet_b2", "efficientnet", 1408, 260, 292),
        _timm("convnext_tiny", "convnext", 768, 224, 235),
        _timm("convnext_small", "convnext", 768, 224, 235),
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
