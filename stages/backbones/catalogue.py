"""The backbones headstart knows: what they are called, how each wants its pixels, where it can be cut.

Plain data without MXNet, so that params.yaml can be checked before anything heavy is loaded;
``stages.networks`` builds the networks named here.
"""

from dataclasses import dataclass

CUTS = ("auto", "conv", "fc6", "pool")


@dataclass(frozen=True)
class Backbone:
    """One ImageNet classifier and the preprocessing its weights were trained with.

    size: side of the square input, in pixels.
    crop: side of the centre crop as a share of the image's shorter side.
    mean, std: per channel (RGB), for pixel values scaled to [0, 1].
    interpolation: "bilinear" or "bicubic", antialiased.
    depthwise: whether it has convolutions of each channel by itself.
    cuts: where ``backbone.cut`` may cut it, deepest first; ``auto`` is the first.
    """

    name: str
    size: int = 224
    crop: float = 224 / 256
    mean: tuple = (0.485, 0.456, 0.406)
    std: tuple = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    depthwise: bool = False
    cuts: tuple = ("pool",)


def _lite(name, size):
    # Centre crop of size / (size + 32) of the shorter side, bicubic, pixels in [-1, 1]: how timm, which converted
    # these weights from TensorFlow, evaluates them (tf_efficientnet_lite0 to 2: crop_pct 0.875, 0.882, 0.890).
    return Backbone(name, size, size / (size + 32), (0.5,) * 3, (0.5,) * 3, "bicubic", depthwise=True)


# Shorter side to 256, centre crop of 224, bilinear, ImageNet's mean and standard deviation:
# the evaluation transform of the Gluon model zoo (gluon.mxnet.io and GluonCV's verify_pretrained.py).
_ZOO = {
    "densenet": ("121", "161", "169", "201"),
    "mobilenet": ("0.25", "0.5", "0.75", "1.0"),
    "mobilenetv2_": ("0.25", "0.5", "0.75", "1.0"),
    "resnet": tuple(f"{depth}_{version}" for depth in (18, 34, 50, 101, 152) for version in ("v1", "v2")),
    "squeezenet": ("1.0", "1.1"),
}
_ZOO_DENSE = ("alexnet",) + tuple(f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn"))

BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _lite("efficientnet_lite0", 224),
        _lite("efficientnet_lite1", 240),
        _lite("efficientnet_lite2", 260),
        *(
            Backbone(family + variant, depthwise=family.startswith("mobilenet"))
            for family, variants in _ZOO.items()
            for variant in variants
        ),
        *(Backbone(name, cuts=("fc6", "conv")) for name in _ZOO_DENSE),
        Backbone("inceptionv3", size=299, crop=299 / 342),
    )
}
