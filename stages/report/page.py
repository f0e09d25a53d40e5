"""The report: one HTML page about a test, with everything it shows inside.

The charts are SVG that the template writes: kilobytes that follow the page's light and dark colours, where
plotly.js alone would weigh 4 MB and a picture would keep its white ground at night.
"""

import base64
import hashlib
import io
import math
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from stages.common.files import write_text

TEMPLATE = Path(__file__).with_suffix(".html.j2")

# Up to this many classes, the confusion matrix is a table of numbers; beyond, a map to zoom into.
TABLE_CLASSES = 30

# Shades of the map: a cell's is the least whose bound is not below its share of the row.
SHADES = (0.02, 0.05, 0.1, 0.2, 1.0)

MISTAKES, UNSURE, PAIRS = 24, 12, 50

# Of a thumbnail's longer side, in pixels: sharp on a phone's screen, and a page of them stays small.
THUMBNAIL = 160

# What featurize measures, in words. Workers run side by side, so their seconds may add up to more than passed.
SECONDS = {
    "read": "reading the files",
    "cache": "feature cache",
    "decode": "decoding, all workers",
    "forward": "waiting for the network, all workers",
}


def surest_mistakes(probabilities, labels, most=MISTAKES):
    """The rows that got a wrong class with the highest probability, surest first: at most ``most`` ints.

    probabilities: float (n, classes). labels: int (n,).
    """
    return _first(probabilities.argmax(axis=1) != labels, -probabilities.max(axis=1), most)


def least_sure(probabilities, labels, most=UNSURE):
    """The rows that got their class with the lowest probability, least sure first: at most ``most`` ints."""
    return _first(probabilities.argmax(axis=1) == labels, probabilities.max(axis=1), most)


def _first(wanted, order, most):
    rows = np.flatnonzero(wanted)
    return rows[np.argsort(order[rows], kind="stable")][:most].tolist()


def thumbnail(image):
    """A Pillow RGB image as the bytes of a small JPEG; never enlarged."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def write(path, metrics, classes, labels, probabilities, pictures, curves, training, featurizing, made_of):
    """Writes the page to ``path``, at once or not at all.

    metrics: the test's, as in metrics/test.json. classes: names by label.
    labels: int (n,). probabilities: float (n, classes) of the test images.
    pictures: {row: (file name, JPEG bytes)} for the rows of :func:`surest_mistakes` and :func:`least_sure`.
    curves: {"loss" and "top1": {"train" and "valid": values by epoch}}.
    training, featurizing: the metrics of train and featurize, as in their files.
    made_of: {heading: {name: value}}, shown as it is.

    The same values give the same bytes. Any text is shown as text, whatever is in it.
    """
    confusion = confusion_matrix(probabilities.argmax(axis=1), labels, len(classes))
    pairs = worst_pairs(classes, confusion)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, seconds=seconds, base64=_base64, source_hash=_source_hash)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metrics=metrics,
        interval=wilson(metrics["top1"], metrics["images"]),
        classes=classes,
        charts=[
            ("Loss", chart(curves["loss"], training["best_epoch"], floor=0.0)),
            ("Top-1 accuracy", chart(curves["top1"], training["best_epoch"], ceiling=1.0)),
        ],
        training=training,
        confusion=confusion.tolist(),
        heat_map=heat_map(confusion) if len(classes) > TABLE_CLASSES else None,
        pairs=pairs[:PAIRS],
        pair_count=len(pairs),
        mistakes=len(labels) - int(confusion.trace()),
        guessing=math.log(len(classes)),
        by_class=by_class(classes, confusion),
        examples=[
            ("surest mistakes", _examples(surest_mistakes(probabilities, labels), probabilities, labels, pictures)),
            ("least sure, and right", _examples(least_sure(probabilities, labels), probabilities, labels, pictures)),
        ],
        featurizing=featurizing,
        spent=[(SECONDS.get(name[8:], name[8:]), s) for name, s in featurizing.items() if name.startswith("seconds_")],
        made_of=made_of,
    )
    write_text(path, page)


def confusion_matrix(predicted, labels, classes):
    """How many rows of each class (first axis) got each class (second): int64 (classes, classes)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def by_class(classes, confusion):
    """A dict for each class, the least accurate first; accuracy and precision are None where nothing was counted."""
    found = []
    for label, name in enumerate(classes):
        images, predicted, right = (
            int(confusion[label].sum()),
            int(confusion[:, label].sum()),
            int(confusion[label, label]),
        )
        others = confusion[label].copy()
        others[label] = 0
        found.append({
            "name": name,
            "images": images,
            "accuracy": right / images if images else None,
            "precision": right / predicted if predicted else None,
            "taken_for": classes[others.argmax()] if others.any() else None,
            "times": int(others.max()),
        })  # fmt: skip
    return sorted(found, key=lambda row: (row["accuracy"] is None, row["accuracy"]))


def worst_pairs(classes, confusion):
    """(true class, predicted class, images, their share of the true class) of every confusion, most images first."""
    errors = confusion * (1 - np.eye(len(classes), dtype=confusion.dtype))
    pairs = [(a, p, int(errors[a, p]), errors[a, p] / confusion[a].sum()) for a, p in np.argwhere(errors)]
    return [(classes[a], classes[p], n, share) for a, p, n, share in sorted(pairs, key=lambda x: (-x[2], -x[3], x[:2]))]


def heat_map(confusion):
    """The map's cells as SVG paths, a unit square each: {"right" and "wrong": a path for each of ``SHADES``}.

    ``rows`` holds what the page says about a cell: for each class its images, and {predicted class: images}.
    """
    images = confusion.sum(axis=1)
    paths = {kind: [""] * len(SHADES) for kind in ("right", "wrong")}
    for a, p in np.argwhere(confusion):
        shade = int(np.searchsorted(SHADES, confusion[a, p] / images[a]))
        paths["right" if a == p else "wrong"][shade] += f"M{p} {a}h1v1h-1z"
    rows = [[int(n), {int(p): int(row[p]) for p in np.flatnonzero(row)}] for n, row in zip(images, confusion)]
    return {**paths, "rows": rows}


def chart(curves, marked, floor=None, ceiling=None):
    """Where the lines of a chart go, in a drawing of 480 by 260.

    curves: {name: values by epoch, from epoch 1}. marked: an epoch. floor, ceiling: ends of the axis, instead of what
    the values reach.
    """
    left, right, top, bottom, width, height = 46, 12, 12, 40, 480, 260
    values = [v for curve in curves.values() for v in curve]
    low = min(values) if floor is None else floor
    high = max(values) if ceiling is None else ceiling
    y_ticks = ticks(low, high if high > low else low + 1)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    epochs = max(map(len, curves.values()))

    def x(epoch):
        share = (epoch - 1) / (epochs - 1) if epochs > 1 else 0.5
        return round(left + share * (width - left - right), 1)

    def y(value):
        return round(top + (high - value) / (high - low) * (height - top - bottom), 1)

    return {
        "width": width, "height": height, "left": left, "right": width - right, "top": top, "bottom": height - bottom,
        "x_ticks": [(x(e), int(e)) for e in ticks(1, epochs) if e == int(e) and 1 <= e <= epochs] or [(x(1), 1)],
        "y_ticks": [(y(t), f"{t:g}") for t in y_ticks],
        "lines": {name: [(x(e), y(v)) for e, v in enumerate(curve, 1)] for name, curve in curves.items()},
        "values": curves,
        "epochs": epochs,
        "marked": marked,
        "marked_x": x(marked),
        # Half the distance between two epochs, for areas that say their epoch's numbers.
        "half": (width - left - right) / max(1, epochs - 1) / 2,
    }  # fmt: skip


def ticks(low, high, about=5):
    """Round numbers (floats) at equal steps that cover ``low`` to ``high``."""
    rough = max(high - low, 1e-9) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [round(i * step, 10) for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def wilson(share, count, z=1.96):
    """Wilson's 95 % interval for a share seen in ``count`` images: (low, high)."""
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def percent(share, digits=1):
    """0.9399 as "94.0 %", with a narrow no-break space."""
    return f"{100 * share:.{digits}f}\u202f%"


def seconds(value):
    """A duration as one reads it: "0.03 s", "56.4 s", "12 min 5 s", "2 h 10 min"."""
    if value < 60:
        return f"{value:.{2 if value < 10 else 1}f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _examples(rows, probabilities, labels, pictures):
    found = []
    for row in rows:
        name, jpeg = pictures[row]
        predicted = int(probabilities[row].argmax())
        actual = int(labels[row])
        found.append({
            "file": name, "jpeg": jpeg, "actual": actual, "predicted": predicted,
            "probability": float(probabilities[row, predicted]), "own": float(probabilities[row, actual]),
        })  # fmt: skip
    return found


def _base64(data):
    return base64.b64encode(data).decode()


def _source_hash(script):
    # As a Content-Security-Policy names the one script that may run.
    return "sha256-" + _base64(hashlib.sha256(script.encode()).digest())
