"""Images that belong together: by their groups and bytes, and by the subsets that they are given to."""

import pytest

from stages.common.errors import InputError
from stages.dataset import groups
from stages.dataset.manifest import Manifest, Row


def manifest(*rows):
    """Of (path, content, group, split)."""
    return Manifest(
        *map(list, zip(*(Row(path, "cat", content, 1, None, group, split) for path, content, group, split in rows)))
    )


def refusal(function, *arguments):
    with pytest.raises(InputError) as refused:
        function(*arguments)
    return str(refused.value)


def test_nothing_is_bound_where_there_are_neither_groups_nor_splits():
    assert groups.bound(manifest(("a", "1", None, None), ("b", "1", "", ""))) == ([], {})


def test_copies_bind_groups_together():
    images = manifest(
        ("a", "1", "p", ""), ("b", "2", "p", ""), ("c", "2", "q", ""), ("d", "3", "q", "test"), ("e", "4", "", "")
    )
    assert groups.bound(images) == ([["1", "2", "3"]], {"1": "test", "2": "test", "3": "test"})


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("a", "1", "", "train"), ("b", "1", "", "test")], "they are the same image (same bytes)"),
        ([("a", "1", "p", "train"), ("b", "2", "p", "test")], "both are of the group 'p'"),
        (
            [("a", "1", "p", "train"), ("b", "2", "q", "test"), ("c", "3", "p", ""), ("d", "3", "q", "")],
            "groups and copies bind them together",
        ),
    ],
)
def test_what_belongs_together_cannot_be_given_to_two_subsets(rows, why):
    assert refusal(groups.bound, manifest(*rows)) == (
        f"a is given to train and b to test, but {why}: give both the same split"
    )
