"""Images that belong together: by a table of the user's, by their bytes, and by the subsets that they are given to."""

from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.dataset import groups
from stages.dataset.manifest import Manifest, Row
from stages.dataset.places import Place
from stages.dataset.sources.source import Listed


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(text):
    Path("groups.csv").write_text(text)
    return Path("groups.csv")


def listed(**own):
    """Images by path, each in a group of its own data set or, "", in none."""
    return [Listed(path, "cat", Place(path), group=group) for path, group in own.items()]


def manifest(*rows):
    """Of (path, content, group, split)."""
    return Manifest(
        *map(list, zip(*(Row(path, "cat", content, 1, None, group, split) for path, content, group, split in rows)))
    )


def refusal(function, *arguments):
    with pytest.raises(InputError) as refused:
        function(*arguments)
    return str(refused.value)


def test_a_table_of_groups():
    assert groups.read(table("path,group\na,1\nb,2\na,1\n")) == {"a": "1", "b": "2"}
    assert refusal(groups.read, table("path,group\na,1\nb,2\na,2\n")) == (
        "groups.csv, line 4: a is in another group by an earlier line"
    )
    assert refusal(groups.read, table("path,cluster\n")).startswith("groups.csv has no column group")
    assert (
        refusal(groups.read, Path("none.csv")) == "dataset.groups: none.csv cannot be read (No such file or directory)"
    )


def test_images_get_their_groups():
    found = groups.added(listed(a=None, b=None, c=None), {"a": "1", "c": "1"}, "groups.csv")
    assert [image.group for image in found] == ["1", "", "1"]


def test_groups_of_the_data_set_and_of_the_table_are_joined():
    images = listed(a="p", b="p", c="q", d="", e="1", f="")
    found = groups.added(images, {"b": "1", "c": "1", "d": "1", "f": "2"}, "groups.csv")
    a, b, c, d, e, f = [image.group for image in found]
    assert a == b == c == d
    # Of one name, yet not one group.
    assert len({a, e, f}) == 3


def test_a_path_that_the_data_set_does_not_have_is_refused():
    assert refusal(groups.added, listed(a=None), {"a": "1", "x": "1", "y": "2"}, "groups.csv") == (
        "groups.csv names x, which the data set does not have (and 1 more like it): take it out"
    )


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
