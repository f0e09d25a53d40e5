"""The manifest as a file: what is written is read back, and what is wrong is refused."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.common.disk import sums
from stages.common.errors import InputError
from stages.dataset import manifest
from stages.dataset.manifest import Row


def digest(content):
    return hashlib.sha256(str(content).encode()).hexdigest()


ROWS = [
    Row("cat/a.png", "cat", digest(1), 100),
    Row("cat/b c.png", "cat", digest(2), 0),
    Row("dög/日本 🐕.png", "dög", digest(3), 10**15),
    Row("more.tar/cat/a.png", "cat", digest(1), 100, 512),
]
PATH = Path("data/manifest.tsv")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=[1, 150, manifest.BLOCK])
def block(request, monkeypatch):
    """Reads so many bytes at once: a line, two or three, all."""
    monkeypatch.setattr(manifest, "BLOCK", request.param)


def read_back(rows):
    manifest.write(PATH, rows)
    return list(map(Row, *manifest.read(PATH)))


# Written and read


def test_a_line_is_path_class_digest_bytes_and_offset():
    manifest.write(PATH, ROWS)
    assert PATH.read_bytes().decode().split("\n") == [
        "path\tclass\tsha256\tbytes\toffset",
        f"cat/a.png\tcat\t{digest(1)}\t100\t",
        f"cat/b c.png\tcat\t{digest(2)}\t0\t",
        f"dög/日本 🐕.png\tdög\t{digest(3)}\t1000000000000000\t",
        f"more.tar/cat/a.png\tcat\t{digest(1)}\t100\t512",
        "",
    ]


def test_what_is_written_is_read_back(block):
    assert read_back(ROWS) == ROWS
    assert read_back([]) == []


def test_rows_may_come_from_a_generator():
    assert read_back(row for row in ROWS) == ROWS


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("group", [{"group": "a b"}, {"group": ""}, {"group": "é"}, {"group": "a b"}]),
        ("split", [{"split": "train"}, {"split": "valid"}, {"split": "test"}, {"split": ""}]),
        ("group\tsplit", [{"group": "x", "split": "test"}, *[{"group": "", "split": ""}] * 3]),
    ],
)
def test_optional_columns_are_there_where_they_are_used(block, columns, values):
    rows = [row._replace(**fields) for row, fields in zip(ROWS, values)]
    assert read_back(rows) == rows
    assert PATH.read_text(encoding="utf-8").startswith(f"path\tclass\tsha256\tbytes\toffset\t{columns}\n")


def test_columns_are_of_one_length():
    manifest.write(PATH, ROWS)
    found = manifest.read(PATH)
    assert {len(column) for column in found} == {len(ROWS)}
    assert found.groups == found.splits == [None] * len(ROWS)


def test_a_class_is_one_string_for_all_its_images():
    manifest.write(PATH, ROWS)
    names = manifest.read(PATH).class_names
    assert names[0] is names[1] is names[3]


NAMES = ["a\u2028b.png", "a\x85b.png", "a\x0cb.png", " a.png ", "#.png", '"a".png', "-a", "..a", "a..", "...", "\x01"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_odd_characters_in_a_name_survive(name):
    rows = [Row(f"{name}/{name}", name, digest(0), 1)]
    assert read_back(rows) == rows


def test_paths_are_in_the_order_of_their_parts(block):
    paths = ["dog.tar/x a/b", "dog house/a", "dog-house/a", "dog/b", "dog.tar/x/a", "dog/a"]
    assert sorted(paths, key=manifest.order) == list(map(str, sorted(map(Path, paths))))
    rows = [Row(path, "dog", digest(path), 1) for path in sorted(paths, key=manifest.order)]
    assert read_back(rows) == rows


def test_rows_out_of_order_are_not_written():
    manifest.write(PATH, ROWS)
    for rows in (ROWS[::-1], [ROWS[0], ROWS[0]]):
        with pytest.raises(ValueError, match="out of order"):
            manifest.write(PATH, rows)
    assert list(map(Row, *manifest.read(PATH))) == ROWS
    assert sorted(path.name for path in PATH.parent.iterdir()) == ["manifest.sha256", PATH.name]


def test_rows_of_other_columns_than_the_first_are_not_written():
    with pytest.raises(ValueError, match="columns of the first row"):
        manifest.write(PATH, [ROWS[0]._replace(group="a"), ROWS[1]])
    assert not PATH.exists()


def test_what_is_the_same_is_not_written_again():
    manifest.write(PATH, ROWS)
    os.utime(PATH, (10**9, 10**9))
    manifest.write(PATH, ROWS)
    assert PATH.stat().st_mtime == 10**9
    manifest.write(PATH, ROWS[1:])
    assert PATH.stat().st_mtime > 10**9


# Some rows


def test_rows_are_found_by_their_paths():
    manifest.write(PATH, ROWS)
    wanted = [ROWS[0], ROWS[2], ROWS[3]]
    assert manifest.find(PATH, {row.path for row in wanted} | {"none", "cat", "more.tar"}) == wanted
    assert manifest.find(PATH, []) == []


@pytest.mark.parametrize("ask", [manifest.read, lambda path: manifest.find(path, ["cat/a.png"])], ids=["read", "find"])
def test_without_a_manifest_it_says_so(ask):
    with pytest.raises(InputError, match=f"^{PATH} is missing: run `dvc repro`$"):
        ask(PATH)


# Damage


@pytest.mark.parametrize("ask", [manifest.read, lambda path: manifest.find(path, [])], ids=["read", "find"])
def test_what_is_not_as_it_was_written_is_refused(ask):
    manifest.write(PATH, ROWS)
    PATH.write_bytes(PATH.read_bytes().replace(b"cat/b c.png", b"cat/b d.png"))
    message = f"{PATH} is damaged or of another run (its SHA-256 is not that in manifest.sha256): run `dvc repro`"
    with pytest.raises(InputError) as refused:
        ask(PATH)
    assert str(refused.value) == message


HEAD = "path\tclass\tsha256\tbytes\toffset\n"
GOOD = f"cat/a\tcat\t{digest(1)}\t1\t\n"


def refuse(data):
    """Fails unless ``data`` is refused although its digest is right."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_bytes(data)
    sums.write([PATH])
    with pytest.raises(InputError) as refused:
        manifest.read(PATH)
    assert str(refused.value) == f"{PATH} is no manifest, or of another version of headstart: run `dvc repro`"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "cat/b cat",
        f"cat/b\tcat\t{digest(1)}\t1",
        f"cat/b\tcat\t{digest(1)}\t1\t\tgroup",
        f"\tcat\t{digest(1)}\t1\t",
        f"cat/../../b\tcat\t{digest(1)}\t1\t",
        f"..\tcat\t{digest(1)}\t1\t",
        f"cat/\0b\tcat\t{digest(1)}\t1\t",
        f"cat/b\t\t{digest(1)}\t1\t",
        f"cat/b\tcat\t{digest(1)[:-1]}\t1\t",
        f"cat/b\tcat\t{'A' * 64}\t1\t",
        f"cat/b\tcat\t{digest(1)}\t-1\t",
        f"cat/b\tcat\t{digest(1)}\t\t",
        f"cat/b\tcat\t{digest(1)}\t١\t",
        f"cat/b\tcat\t{digest(1)}\t{'9' * 5000}\t",
        f"cat/b\tcat\t{digest(1)}\t1\t0x",
        f"cat/b\tcat\t{digest(1)}\t1\t\r",
        f"cat/a\tcat\t{digest(1)}\t1\t",
        f"ape/a\tcat\t{digest(1)}\t1\t",
    ],
)
def test_a_line_that_is_none_is_refused(block, line):
    more = "".join(GOOD.replace("cat/a", f"cat/{name}") for name in "cd")
    refuse((HEAD + GOOD + f"{line}\n" + more).encode())


def test_a_bad_split_is_refused():
    refuse((HEAD.replace("\n", "\tsplit\n") + GOOD.replace("\n", "\tdev\n")).encode())


def test_bytes_that_are_not_utf8_are_refused(block):
    refuse((HEAD + GOOD).encode() + GOOD.encode().replace(b"a\t", b"\xff\t"))


@pytest.mark.parametrize("cut", [1, 10, 70])
def test_a_line_cut_short_is_refused(block, cut):
    refuse((HEAD + GOOD + GOOD.replace("cat/a", "cat/b")).encode()[:-cut])


@pytest.mark.parametrize(
    "data", [b"", b"\n", GOOD.encode(), b"\xff\xfe\n", HEAD.upper().encode(), HEAD.encode()[:-2], b"path\tgroup\n"]
)
def test_another_heading_is_refused(data):
    refuse(data)


# Many rows


def test_memory_for_many_rows():
    """100,000 rows: well under a kilobyte each, also while they are read."""
    rows = (Row(f"class-{n // 1000:04}/image-{n:08}.jpg", f"class-{n // 1000:04}", digest(n), n) for n in range(10**5))
    manifest.write(PATH, rows)
    code = f"""
import resource
from pathlib import Path
from stages.dataset import manifest
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = manifest.read(Path({str(PATH)!r}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    root = Path(manifest.__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)}
    )
    assert int(done.stdout) * 1024 < 700 * 10**5
