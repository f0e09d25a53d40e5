"""What the audit found: ``metrics/audit.csv``, row by row, and ``metrics/audit.json``, how many there are."""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Optional

from stages.common.disk.documents import Document
from stages.common.disk.files import uncell, write_csv
from stages.common.errors import InputError
from stages.common.settings.layout import METRICS

TABLE = METRICS / "audit.csv"
COUNTS = METRICS / "audit.json"
BY_CLASS = METRICS / "audit_classes.csv"

# In the order of the table. label: probably of another class; leak: nearly the same picture in two subsets; conflict:
# in two classes; duplicate: in one subset and class; outlier: unlike all others.
KINDS = ("label", "leak", "conflict", "duplicate", "outlier")
COLUMNS = ("kind", "path", "class", "suggested", "score", "other")
# What is recorded of a score.
DIGITS = 4


class Finding(NamedTuple):
    """One row. class_name: the image's; suggested: the class it looks like, "" for other kinds than label.

    score: from 0 to 1, the more suspicious the higher. other: the path of its twin, or of a typical image of the class
    suggested; "" for an outlier.
    """

    kind: str
    path: str
    class_name: str
    suggested: str
    score: float
    other: str


class AuditMetrics(Document):
    """metrics/audit.json: how many findings of each kind there are; None where ``audit.enabled`` is false.

    images: how many were looked at. unconfirmed: pairs of images with like features that could not be compared,
    because the images are not at hand.
    """

    images: Optional[int]
    label: Optional[int]
    leak: Optional[int]
    conflict: Optional[int]
    duplicate: Optional[int]
    outlier: Optional[int]
    unconfirmed: Optional[int]

    @classmethod
    def of(cls, findings: Iterable[Finding], images: int, unconfirmed: int) -> "AuditMetrics":
        """Counts ``findings``."""
        counts = Counter(finding.kind for finding in findings)
        return cls(images=images, **{kind: counts[kind] for kind in KINDS}, unconfirmed=unconfirmed)


def write(findings: Collection[Finding], classes: Sequence[str]) -> None:
    """Writes ``findings`` to ``metrics/audit.csv``: by kind, within a kind the highest score first, then by path.

    And how many there are of each of ``classes`` to ``metrics/audit_classes.csv``, which ``dvc plots`` draws.
    """
    rows = sorted(findings, key=lambda found: (KINDS.index(found.kind), -round(found.score, DIGITS), found.path))
    write_csv(TABLE, COLUMNS, ((*found[:4], f"{found.score:.{DIGITS}f}", found.other) for found in rows))
    counts = Counter(found.class_name for found in findings)
    write_csv(BY_CLASS, ["class", "findings"], ((name, counts[name]) for name in classes))


def write_none() -> None:
    """Writes the files of an audit that is switched off."""
    write((), ())
    AuditMetrics(**dict.fromkeys(AuditMetrics.model_fields)).save(COUNTS)


def read() -> list[Finding]:
    """The rows of ``metrics/audit.csv``. Raises InputError where it is not there, or not as :func:`write` leaves it."""
    remedy = "run `dvc repro -f audit`"
    try:
        with open(TABLE, newline="", encoding="utf-8") as file:
            heading, *rows = csv.reader(file)
        if tuple(heading) == COLUMNS and all(row[0] in KINDS for row in rows):
            return [
                Finding(kind, path, name, suggested, float(score), other)
                for kind, path, name, suggested, score, other in (map(uncell, row) for row in rows)
            ]
    except FileNotFoundError:
        raise InputError(f"{TABLE} is missing: {remedy}") from None
    except (ValueError, IndexError, csv.Error):
        pass
    raise InputError(f"{TABLE} is damaged: {remedy}")
