"""What a table of the user's may be like, and what is said of one that is not."""

import pytest

from stages.common.errors import InputError
from stages.dataset.sources.files.tables import parsed


def read(text, name="list.csv"):
    data = text if isinstance(text, bytes) else text.encode()
    return parsed(name, data, ["path", "class"], ["group"])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,class\na b.jpg,cat\nc.jpg,dög\n", "list.csv"),
        ("path\tclass\r\na b.jpg\tcat\r\nc.jpg\tdög\r\n", "list.TSV"),
        (b"\xef\xbb\xbfclass , path\n\ncat, a b.jpg \nd\xc3\xb6g,c.jpg", "list.txt"),
    ],
)
def test_columns_come_in_any_order_and_spaces_around_them_do_not_count(text, name):
    rows = read(text, name)
    assert [(row["path"], row["class"]) for row in rows] == [("a b.jpg", "cat"), ("c.jpg", "dög")]


def test_what_is_quoted_may_have_commas():
    assert read('path,class,group\n"a,b.jpg",cat,\n') == [
        {"path": "a,b.jpg", "class": "cat", "group": "", "line": "2"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.csv has no column path: the first line names the columns path, class, and perhaps group"),
        (
            "path,label\n",
            "list.csv has no column class: the first line names the columns path, class, and perhaps group",
        ),
        ("path,class,grp\n", "list.csv has a column 'grp' that means nothing here: the first line names the columns"),
        ("path,class,path\n", "list.csv has two columns path: the first line"),
        ("path,class\na,cat\nb\n", "list.csv, line 3: 1 fields, not 2 as in line 1"),
        ("path,class\na,cat\nb, \n", "list.csv, line 3: class is empty"),
        ('path,class\n"a\tb",cat\n', "list.csv, line 2: path has a tab, a line break or a NUL in it"),
        ('path,class\n"a,cat\n', "list.csv, line 2: unexpected end of data"),
        (b"path,class\n\xff,cat\n", "list.csv is not text in UTF-8: save it as that"),
    ],
)
def test_the_line_that_is_wrong_is_named(text, message):
    with pytest.raises(InputError) as refused:
        read(text)
    assert str(refused.value).startswith(message)
