"""The families of networks by name. Another one is a module beside these and a line here."""

from stages.backbones import catalogue
from stages.backbones.families import (
    clip,
    convnext,
    efficientnet,
    efficientnet_lite,
    gluon_zoo,
    mobilenetv3,
    resnet,
    vit,
)
from stages.backbones.families.family import Family

# By ``Backbone.family``.
FAMILIES: dict[str, Family] = {
    "clip": clip.FAMILY,
    "convnext": convnext.FAMILY,
    "efficientnet": efficientnet.FAMILY,
    "efficientnet_lite": efficientnet_lite.FAMILY,
    "gluon_zoo": gluon_zoo.FAMILY,
    "mobilenetv3": mobilenetv3.FAMILY,
    "resnet": resnet.FAMILY,
    "vit": vit.FAMILY,
}


def of(name: str) -> Family:
    """The family of the backbone ``name``. Raises InputError where there is no backbone of that name."""
    return FAMILIES[catalogue.find(name).family]
