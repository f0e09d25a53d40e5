"""The model card: how to use an exported classifier, and where it comes from, as Markdown."""

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Optional

from stages.backbones.catalogue import Backbone
from stages.classifier.model.trained import HeadInfo
from stages.classifier.scores import TestMetrics
from stages.common.settings.params import Dataset
from stages.exports.onnx import OPSET
from stages.preprocessing import pixels

CROP = """\
side = {crop!r} * min(image.size)
left, top = (image.width - side) / 2, (image.height - side) / 2
box = (left, top, left + side, top + side)"""
CROP_OF_RESIZED = """\
resized = [int({resized} * side / min(image.size)) for side in image.size]
left, top = (round((side - {size}) / 2) for side in resized)
x, y = image.width / resized[0], image.height / resized[1]
box = (left * x, top * y, (left + {size}) * x, (top + {size}) * y)"""
SQUASH = "box = (0, 0, *image.size)"


def write(info: HeadInfo, backbone: Backbone, dataset: Dataset, measured: Optional[TestMetrics]) -> str:
    """The card of the classifier that ``info`` is of.

    backbone: the one it was trained on. dataset: what the images were. measured: its scores on the test images, where
    they are known.
    """
    features, squash = info.features, info.features.resize == "squash"
    return Template(Path(__file__).with_name("card.md").read_text(encoding="utf-8")).substitute(
        backbone=backbone.name,
        weights=info.weights.source,
        cut=features.cut,
        resize=features.resize,
        precision=features.precision,
        dtype=features.dtype,
        classes=len(features.classes),
        opset=OPSET,
        size=backbone.size,
        least=pixels.least_side(backbone),
        region="the whole image"
        if squash
        else f"the square in its centre whose side is {backbone.crop:.4g} of the image's shorter side",
        box=SQUASH if squash else _crop(backbone),
        interpolation=backbone.interpolation,
        INTERPOLATION=backbone.interpolation.upper(),
        mean=list(backbone.mean),
        std=list(backbone.std),
        data=dataset.name if dataset.name != "folder" else f"the folder {Path(dataset.path).name}",
        train=info.train_images,
        valid=info.valid_images,
        test=measured.images if measured else "not measured",
        settings=_table(info.train.model_dump()),
        scores=_table(measured.model_dump(exclude={"images"})) if measured else "| not measured | |",
    )


def _crop(backbone: Backbone) -> str:
    if backbone.resized:
        return CROP_OF_RESIZED.format(resized=backbone.resized, size=backbone.size)
    return CROP.format(crop=backbone.crop)


def _table(values: Mapping[str, object]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in values.items())
