"""A table of the user's that gives images their groups: ``dataset.groups`` in params.yaml."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.common.errors import InputError
from stages.dataset.groups import leaders
from stages.dataset.sources.files import tables
from stages.dataset.sources.source import Listed


def read(path: Path) -> dict[str, str]:
    """{path of an image: its group} of a table with the columns ``path`` and ``group``, as ``dataset.groups`` names it.

    Raises InputError where it is not there or not as it should be, or has one path twice.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"dataset.groups: {path} cannot be read ({error.strerror})") from None
    groups: dict[str, str] = {}
    for row in tables.parsed(str(path), data, ["path", "group"]):
        if groups.setdefault(row["path"], row["group"]) != row["group"]:
            raise InputError(f"{path}, line {row['line']}: {row['path']} is in another group by an earlier line")
    return groups


def added(images: Sequence[Listed], groups: Mapping[str, str], name: str) -> list[Listed]:
    """``images`` in the ``groups`` of the file ``name`` too: what one or the other binds together is one group.

    Raises InputError where the file names an image that is not there.
    """
    paths = {image.path for image in images}
    stray = [path for path in groups if path not in paths]
    if stray:
        more = f" (and {len(stray) - 1} more like it)" if len(stray) > 1 else ""
        raise InputError(f"{name} names {stray[0]}, which the data set does not have{more}: take it out")
    # By its kind, as both may use the same names.
    joined = leaders(
        (("own", image.group), ("file", groups[image.path])) for image in images if image.group and image.path in groups
    )

    def group(image: Listed) -> str:
        one = ("own", image.group) if image.group else ("file", groups.get(image.path, ""))
        return joined.get(one, one)[1] or ""

    return [image._replace(group=group(image)) for image in images]
