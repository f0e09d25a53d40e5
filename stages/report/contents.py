"""What the report tells of: gathered from the test and from what the stages before it left."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Optional

from stages.backbones import catalogue
from stages.classifier.model import grid
from stages.classifier.model.curves import KEPT, Curves
from stages.classifier.model.grid import Trial
from stages.classifier.model.trained import Chosen, HeadInfo
from stages.classifier.scores import Kept, Labels, TestMetrics
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import MANIFEST, SPLIT
from stages.dataset import manifest
from stages.dataset.sources import table
from stages.dataset.sources.files.places import within
from stages.features.stored.records import Work
from stages.report import findings
from stages.report.figures import Probabilities, least_sure, surest_mistakes
from stages.report.findings import Section
from stages.report.made import made_of
from stages.report.origin import origin
from stages.report.pictures import Picture, picture


@dataclass(frozen=True)
class Contents:
    """title: of the data set. classes: their names by label. labels, probabilities, paths: of the test images.

    paths: as in the manifest. root: the folder, or its URL, to which they are relative.
    pictures: by row, of those that ``figures.surest_mistakes`` and ``figures.least_sure`` name; None where the image
    is not to be had.
    curves, kept, trials, work: what the stages before it measured. chosen: what was best of the training's
    settings. refitted: whether the best was trained anew on train and valid.
    origin: {name: what to say}. made_of: {heading: {name: what to say}}. audit: None where there was none.
    """

    title: str
    metrics: TestMetrics
    classes: list[str]
    labels: Labels
    probabilities: Probabilities
    paths: Sequence[str]
    root: str
    pictures: dict[int, Optional[Picture]]
    curves: Curves
    kept: Kept
    trials: list[Trial]
    chosen: Chosen
    refitted: bool
    work: Work
    origin: dict[str, str]
    made_of: dict[str, dict[str, str]]
    audit: Optional[Section]


def gather(
    given: params.Params,
    info: HeadInfo,
    metrics: TestMetrics,
    labels: Labels,
    probabilities: Probabilities,
    paths: Sequence[str],
    curves: Curves,
    work: Work,
) -> Contents:
    """All that the report tells of a test.

    info: about the head that was tested. labels, probabilities, paths: of the test images.
    Raises InputError where what other stages left does not fit, or is missing.
    """
    kept = Kept.load(KEPT, "run `dvc repro -f train`")
    if not 1 <= kept.best_epoch <= len(curves.seconds):
        raise InputError(f"{KEPT} and the curves beside it are not of one training: run `dvc repro -f train`")
    source = table.of(given.dataset)
    shown = {*surest_mistakes(probabilities, labels), *least_sure(probabilities, labels)}
    return Contents(
        title=source.title(given.dataset),
        metrics=metrics,
        classes=info.features.classes,
        labels=labels,
        probabilities=probabilities,
        paths=paths,
        root=source.root(given.dataset),
        pictures=_pictures(shown, paths, given.dataset, info),
        curves=curves,
        kept=kept,
        trials=grid.read(),
        chosen=info.chosen,
        refitted=info.train.refit,
        work=work,
        origin=origin(),
        made_of=made_of(given, info, metrics.images),
        audit=findings.gather(given.dataset, info.features.classes, paths, labels, probabilities.argmax(axis=1)),
    )


def _pictures(
    shown: Collection[int], paths: Sequence[str], chosen: params.Dataset, info: HeadInfo
) -> dict[int, Optional[Picture]]:
    found = {row.path: row for row in manifest.find(MANIFEST, {paths[row] for row in shown})}
    root, backbone = table.of(chosen).root(chosen), catalogue.BACKBONES[info.features.backbone]
    pictures = {}
    for row in shown:
        image = found.get(paths[row])
        if image is None:
            raise InputError(f"{MANIFEST} has no {paths[row]}, which {SPLIT}/test.lst lists: run `dvc repro`")
        place = within(root, image.path, image.size, image.offset)
        pictures[row] = picture(place, bytes.fromhex(image.sha256), backbone, info.features.resize)
    return pictures
