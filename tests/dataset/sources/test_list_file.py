"""A table of images: where they are, and what is said of a line that is not as it should be."""

from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset.sources import table
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import Place
from stages.dataset.sources.source import Listed
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def chosen(path="mine/list.csv"):
    return params.load(ROOT / "params.yaml").dataset.model_copy(update={"name": "list", "path": path})


def find(text, path="mine/list.csv"):
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)
    return table.of(chosen(path)).find(chosen(path), Index(None))


def test_paths_are_relative_to_the_table_or_not_at_all():
    listing = find("path,class\nsub/./b.jpg,dog\n../a.jpg,cat\n/else/c.jpg,cat\n")
    assert listing.classes == ["cat", "dog"]
    assert listing.images == [
        Listed("sub/b.jpg", "dog", Place("mine/sub/b.jpg")),
        Listed("../a.jpg", "cat", Place("mine/../a.jpg")),
        Listed("/else/c.jpg", "cat", Place("/else/c.jpg")),
    ]
    assert table.of(chosen()).root(chosen()) == "mine" and table.of(chosen()).root(chosen("list.csv")) == "."


def test_groups_and_splits_are_taken_over():
    listing = find("path\tclass\tgroup\tsplit\na\tcat\tp\ttest\nb\tcat\t\t\n", "mine/list.tsv")
    assert [(image.group, image.split) for image in listing.images] == [("p", "test"), ("", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\n", "mine/list.csv lists no images: a line for each, with its path and class"),
        (
            "path,class\na,cat\nb,cat\n./a,dog\n",
            "mine/list.csv, line 4 lists a, which line 2 lists too: take one of them out",
        ),
        (
            "path,class,split\na,cat,valid\nb,cat,val\n",
            "mine/list.csv, line 3: split must be train, valid, test or empty (got 'val')",
        ),
    ],
)
def test_a_line_that_contradicts_another_or_makes_no_sense_is_named(text, message):
    with pytest.raises(InputError) as refused:
        find(text)
    assert str(refused.value) == message


def test_no_table_there():
    assert table.of(chosen()).missing(chosen()) == "mine/list.csv"
    with pytest.raises(InputError, match="dataset.path: there is no table mine/list.csv: a CSV or TSV file"):
        table.of(chosen()).find(chosen(), Index(None))
