"""Groups by a table of the user's, for images of any data set."""

from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.dataset import group_file
from stages.dataset.sources.files.places import Place
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


def refusal(function, *arguments):
    with pytest.raises(InputError) as refused:
        function(*arguments)
    return str(refused.value)


def test_a_table_of_groups():
    assert group_file.read(table("path,group\na,1\nb,2\na,1\n")) == {"a": "1", "b": "2"}
    assert refusal(group_file.read, table("path,group\na,1\nb,2\na,2\n")) == (
        "groups.csv, line 4: a is in another group by an earlier line"
    )
    assert refusal(group_file.read, table("path,cluster\n")).startswith("groups.csv has no column group")
    assert (
        refusal(group_file.read, Path("none.csv"))
        == "dataset.groups: none.csv cannot be read (No such file or directory)"
    )


def test_images_get_their_groups():
    found = group_file.added(listed(a=None, b=None, c=None), {"a": "1", "c": "1"}, "groups.csv")
    assert [image.group for image in found] == ["1", "", "1"]


def test_groups_of_the_data_set_and_of_the_table_are_joined():
    images = listed(a="p", b="p", c="q", d="", e="1", f="")
    found = group_file.added(images, {"b": "1", "c": "1", "d": "1", "f": "2"}, "groups.csv")
    a, b, c, d, e, f = [image.group for image in found]
    assert a == b == c == d
    # Of one name, yet not one group.
    assert len({a, e, f}) == 3


def test_a_path_that_the_data_set_does_not_have_is_refused():
    assert refusal(group_file.added, listed(a=None), {"a": "1", "x": "1", "y": "2"}, "groups.csv") == (
        "groups.csv names x, which the data set does not have (and 1 more like it): take it out"
    )
