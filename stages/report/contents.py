"""What the report tells of: gathered from the test and from what the stages before it left."""

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Optional

from PIL import Image

from stages.classifier.curves import KEPT, Curves
from stages.classifier.head import Logits
from stages.classifier.scores import Kept, Labels, TestMetrics, softmax
from stages.classifier.trained import HeadInfo
from stages.common import params
from stages.common.errors import InputError
from stages.common.layout import MANIFEST, SPLIT
from stages.dataset import lists, manifest
from stages.dataset.decode import decode
from stages.dataset.places import Place, read, within
from stages.dataset.sources import table
from stages.features.records import Work
from stages.report.figures import Probabilities, least_sure, surest_mistakes

# Of a thumbnail's longer side, in pixels: sharp on a phone's screen, and a page of them stays small.
THUMBNAIL = 160


class Picture(NamedTuple):
    """path: as in the manifest. jpeg: a thumbnail, the bytes of a JPEG file; None where the image is not to be had."""

    path: str
    jpeg: Optional[bytes]


@dataclass(frozen=True)
class Contents:
    """classes: their names by label. labels, probabilities: of the test images.

    pictures: by row, of those that ``figures.surest_mistakes`` and ``figures.least_sure`` name.
    curves, kept, work: what the stages before it measured.
    made_of: {heading: {name: what to say}}.
    """

    metrics: TestMetrics
    classes: list[str]
    labels: Labels
    probabilities: Probabilities
    pictures: dict[int, Picture]
    curves: Curves
    kept: Kept
    work: Work
    made_of: dict[str, dict[str, str]]


def gather(
    given: params.Params,
    info: HeadInfo,
    metrics: TestMetrics,
    labels: Labels,
    logits: Logits,
    curves: Curves,
    work: Work,
) -> Contents:
    """All that the report tells of a test; info: about the head that was tested, labels, logits: of the test images.

    Raises InputError where what other stages left does not fit, or is missing.
    """
    probabilities = softmax(logits)
    kept = Kept.load(KEPT, "run `dvc repro -f train`")
    if not 1 <= kept.best_epoch <= len(curves.seconds):
        raise InputError(f"{KEPT} and the curves beside it are not of one training: run `dvc repro -f train`")
    return Contents(
        metrics=metrics,
        classes=info.features.classes,
        labels=labels,
        probabilities=probabilities,
        pictures=_pictures(
            {*surest_mistakes(probabilities, labels), *least_sure(probabilities, labels)}, labels, given.dataset
        ),
        curves=curves,
        kept=kept,
        work=work,
        made_of=_made_of(given, info, metrics.images),
    )


def _pictures(shown: Collection[int], labels: Labels, chosen: params.Dataset) -> dict[int, Picture]:
    rows = lists.read("test")
    if [row.label for row in rows] != labels.tolist():
        raise InputError(f"the features are not those of {SPLIT}/test.lst: run `dvc repro`")
    found = {row.path: row for row in manifest.find(MANIFEST, {rows[row].path for row in shown})}
    root = table.of(chosen).root(chosen)
    pictures = {}
    for row in shown:
        path = rows[row].path
        image = found.get(path)
        if image is None:
            raise InputError(f"{MANIFEST} has no {path}, which {SPLIT}/test.lst lists: run `dvc repro`")
        place = within(root, path, image.size, image.offset)
        pictures[row] = Picture(path, _thumbnail(place, bytes.fromhex(image.sha256)))
    return pictures


def _thumbnail(place: Place, wanted: bytes) -> Optional[bytes]:
    """Of the image there, whose digest is ``wanted``; None where it is gone, or another one by now."""
    try:
        data, digest = read(place)
        return thumbnail(decode(data, place.name)) if digest == wanted else None
    except InputError:
        return None


def thumbnail(image: Image.Image) -> bytes:
    """An RGB image as a small JPEG file; never enlarged."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def _made_of(given: params.Params, info: HeadInfo, test_images: int) -> dict[str, dict[str, str]]:
    features, weights = info.features, info.weights
    data = [(f"dataset.{name}", value) for name, value in given.dataset]
    data += [(f"split.{name}", value) for name, value in given.split]
    counts = f"{info.train_images:,} train, {info.valid_images:,} valid, {test_images:,} test"
    return {
        "Data": {
            **{name: str(value) for name, value in data},
            "classes": str(len(features.classes)),
            "images": counts,
        },
        "Backbone": {
            "network": features.backbone,
            "weights": weights.source,
            "SHA-256": weights.source_sha256[:12],
            "parameters": f"{weights.parameters:,}",
        },
        "Features": {
            "cut": features.cut,
            "resize": features.resize,
            "precision": features.precision,
            "dim": str(features.dim),
            "dtype": features.dtype,
        },
        "Training": {name: str(value) for name, value in info.train},
    }
