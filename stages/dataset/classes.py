"""The names of the classes, in the order of their labels: ``data/classes.txt``, one a line."""

from collections.abc import Sequence

from stages.common.disk import sums
from stages.common.disk.files import write_text
from stages.common.settings.layout import CLASSES


def write(names: Sequence[str]) -> None:
    """Writes ``data/classes.txt``: the class of label 0 first. A name has no line break in it."""
    write_text(CLASSES, "".join(f"{name}\n" for name in names))
    sums.write([CLASSES])


def read() -> list[str]:
    """The names that :func:`write` wrote. Raises InputError where the file is not as it left it."""
    sums.check([CLASSES])
    return CLASSES.read_text(encoding="utf-8").rstrip("\n").split("\n")
