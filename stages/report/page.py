"""The report: one HTML page about a test, with everything it shows inside.

The charts are SVG that the template writes: kilobytes that follow the page's light and dark colours, where
plotly.js alone would weigh 4 MB and a picture would keep its white ground at night.
"""

import base64
import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Optional

import jinja2

from stages.classifier.model.grid import Rule
from stages.common.disk.files import write_text
from stages.dataset.sources.files.places import within
from stages.features.stored.records import Work
from stages.report import figures, reliability
from stages.report.contents import Contents
from stages.report.findings import data_uri
from stages.report.pictures import Picture
from stages.report.tables import PREDICTIONS

TEMPLATE = Path(__file__).with_suffix(".html.j2")

# Up to this many classes, the confusion matrix is a table of numbers; beyond, a map to zoom into.
TABLE_CLASSES = 30

PAIRS = 50


class Example(NamedTuple):
    """A test image: its labels, and the probabilities of the predicted class and of its own.

    line: of it in predictions.csv, from 1, which is the heading.
    """

    path: str
    line: int
    picture: Optional[Picture]
    actual: int
    predicted: int
    probability: float
    own: float


def write(path: Path, contents: Contents) -> None:
    """Writes the page to ``path``, at once or not at all.

    The same contents give the same bytes. Any text is shown as text, whatever is in it.
    """
    classes, labels, probabilities = contents.classes, contents.labels, contents.probabilities
    metrics, curves, best_epoch = contents.metrics, contents.curves, contents.kept.best_epoch
    confusion = figures.confusion_matrix(probabilities.argmax(axis=1), labels, len(classes))
    pairs = figures.worst_pairs(classes, confusion)
    mistakes = figures.surest_mistakes(probabilities, labels, most=len(labels))
    page = _template().render(
        title=contents.title,
        origin=contents.origin,
        metrics=metrics,
        interval=figures.wilson(metrics.top1, metrics.images),
        classes=classes,
        charts=[
            ("Loss", figures.chart(curves.loss._asdict(), best_epoch, floor=0.0)),
            ("Top-1 accuracy", figures.chart(curves.top1._asdict(), best_epoch, ceiling=1.0)),
        ],
        kept=contents.kept,
        chosen=contents.chosen,
        refitted=contents.refitted,
        grid=figures.grid(contents.trials, Rule(contents.chosen.lr, contents.chosen.weight_decay)),
        reliability=figures.reliability(reliability.bins(probabilities, labels)),
        epoch_seconds=curves.seconds,
        confusion=confusion.tolist(),
        heat_map=figures.heat_map(confusion) if len(classes) > TABLE_CLASSES else None,
        pairs=pairs[:PAIRS],
        pair_count=len(pairs),
        mistakes=len(mistakes),
        mistaken=[within(contents.root, contents.paths[row], 0, None).path for row in mistakes],
        predictions=PREDICTIONS.name,
        guessing=math.log(len(classes)),
        by_class=figures.class_rows(classes, confusion),
        examples=[
            ("surest mistakes", _examples(mistakes[: figures.MISTAKES], contents)),
            ("least sure, and right", _examples(figures.least_sure(probabilities, labels), contents)),
        ],
        work=contents.work,
        spent=_spent(contents.work),
        made_of=contents.made_of,
        audit=contents.audit,
    )
    write_text(path, page)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, seconds=seconds, base64=_base64, source_hash=_source_hash, data_uri=data_uri
    )
    return environment.get_template(TEMPLATE.name)


def _examples(rows: Iterable[int], contents: Contents) -> list[Example]:
    examples = []
    for row in rows:
        probabilities, actual = contents.probabilities[row], int(contents.labels[row])
        predicted = int(probabilities.argmax())
        probability, own = float(probabilities[predicted]), float(probabilities[actual])
        path, picture = contents.paths[row], contents.pictures[row]
        examples.append(Example(path, row + 2, picture, actual, predicted, probability, own))
    return examples


def _spent(work: Work) -> list[tuple[str, float]]:
    # Workers run side by side, so their seconds may add up to more than passed.
    return [
        ("reading the files", work.seconds_read),
        ("feature cache", work.seconds_cache),
        ("decoding, all workers", work.seconds_decode),
        ("waiting for the network, all workers", work.seconds_forward),
    ]


def percent(share: float, digits: int = 1) -> str:
    """0.9399 as "94.0 %", with a narrow no-break space."""
    return f"{100 * share:.{digits}f}\u202f%"


def seconds(value: float) -> str:
    """A duration as one reads it: "0.03 s", "56.4 s", "12 min 5 s", "2 h 10 min"."""
    if value < 60:
        return f"{value:.{2 if value < 10 else 1}f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _source_hash(script: str) -> str:
    # As a Content-Security-Policy names the one script that may run.
    return "sha256-" + _base64(hashlib.sha256(script.encode()).digest())
