"""How files and folders get where they belong: whole, or not at all."""

import contextlib
import csv
import hashlib
import os
import subprocess
import sys

import pytest

from stages.common.disk.files import one_at_a_time, replacing, sha256, write_csv, write_text
from tests.conftest import ROOT


@pytest.fixture
def place(tmp_path):
    return tmp_path / "data" / "made"


def everything(folder):
    """All files below ``folder``, by their path, with what they hold."""
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


class Broken(Exception):
    pass


def test_a_file_appears_when_the_block_ends(place, tmp_path):
    with replacing(place) as temporary:
        temporary.write_text("new")
        assert not place.exists()
        assert temporary.parent == place.parent  # the same file system: it can be renamed
    assert everything(tmp_path) == {"data/made": "new"}


def test_a_folder_appears_when_the_block_ends(place, tmp_path):
    with replacing(place, folder=True) as temporary:
        (temporary / "a").write_text("1")
        (temporary / "b").mkdir()
        (temporary / "b" / "c").write_text("2")
        assert not place.exists()
    assert everything(tmp_path) == {"data/made/a": "1", "data/made/b/c": "2"}


def test_a_folder_may_stay_empty(place):
    with replacing(place, folder=True):
        pass
    assert place.is_dir()


def test_a_new_file_replaces_the_old(place, tmp_path):
    write_text(place, "old")
    with replacing(place) as temporary:
        temporary.write_text("new")
        assert place.read_text() == "old"
    assert everything(tmp_path) == {"data/made": "new"}


def test_a_new_folder_replaces_the_old_with_all_it_held(place, tmp_path):
    for name in ("old", "new"):
        with replacing(place, folder=True) as temporary:
            (temporary / name).write_text(name)
    assert everything(tmp_path) == {"data/made/new": "new"}


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [{}, {"data/made": "old"}], ids=["nothing before", "a file before"])
def test_an_error_leaves_the_file_as_it_was(place, tmp_path, error, before):
    for name, text in before.items():
        write_text(tmp_path / name, text)
    with pytest.raises(error), replacing(place) as temporary:
        temporary.write_text("half")
        raise error
    assert everything(tmp_path) == before


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [{}, {"data/made/old": "old"}], ids=["nothing before", "a folder before"])
def test_an_error_leaves_the_folder_as_it_was(place, tmp_path, error, before):
    for name, text in before.items():
        write_text(tmp_path / name, text)
    with pytest.raises(error), replacing(place, folder=True) as temporary:
        (temporary / "half").write_text("half")
        raise error
    assert everything(tmp_path) == before
    assert place.exists() == bool(before)


def test_a_block_that_writes_nothing_fails_and_leaves_the_file_as_it_was(place):
    write_text(place, "old")
    with pytest.raises(FileNotFoundError), replacing(place):
        pass
    assert place.read_text() == "old"


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_killed_run_left_is_overwritten(place, tmp_path, folder):
    with replacing(place, folder=folder) as temporary:
        target = temporary / "a" if folder else temporary
        target.write_text("1")
    # A killed run: the temporary file or folder stays.
    if folder:
        temporary.mkdir()
        (temporary / "half").write_text("half")
    else:
        temporary.write_text("half")
    with replacing(place, folder=folder) as temporary:
        (temporary / "a" if folder else temporary).write_text("2")
    assert everything(tmp_path) == ({"data/made/a": "2"} if folder else {"data/made": "2"})


def test_links_are_removed_and_what_they_lead_to_is_not(place, tmp_path):
    write_text(tmp_path / "mine" / "photo", "kept")
    with replacing(place, folder=True) as temporary:
        os.symlink(tmp_path / "mine" / "photo", temporary / "photo")
        os.symlink(tmp_path / "mine", temporary / "folder")
    with replacing(place, folder=True):
        pass
    assert everything(tmp_path) == {"mine/photo": "kept"}


def test_a_place_that_is_itself_a_link_to_a_folder_is_replaced(place, tmp_path):
    write_text(tmp_path / "mine" / "photo", "kept")
    place.parent.mkdir()
    os.symlink(tmp_path / "mine", place)
    with replacing(place, folder=True) as temporary:
        (temporary / "a").write_text("new")
    assert not place.is_symlink()
    assert everything(tmp_path) == {"data/made/a": "new", "mine/photo": "kept"}


def test_text_is_utf_8(place):
    write_text(place, "größe ✓\n")
    assert place.read_bytes() == "größe ✓\n".encode()


def test_a_table_is_written_with_its_heading(place):
    write_csv(place, ["class", "images"], [("dög, brown", 3), ("cat", 4)])
    with open(place, newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["class", "images"], ["dög, brown", "3"], ["cat", "4"]]


def test_a_table_holds_nothing_that_spreadsheets_run(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]
    write_csv(tmp_path / "a.csv", ["name"], [[text] for text in [*texts, "a=1", "", -1, 0.5]])
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        found = [row[0] if row else "" for row in csv.reader(file)]
    assert found == ["name", *(f"'{text}" for text in texts), "a=1", "", "-1", "0.5"]


def test_the_digest_of_a_file_is_that_of_all_its_bytes(tmp_path):
    data = bytes(range(256)) * 10_000  # more than is read at once
    for content in (data, b""):
        (tmp_path / "a").write_bytes(content)
        assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


# Unless it is the same


@pytest.fixture
def old(place):
    """A file that was written long ago."""
    write_text(place, "same")
    os.utime(place, (10**9, 10**9))
    return place.stat()


def test_a_file_that_would_be_the_same_stays_with_its_times(place, old, tmp_path):
    with replacing(place, unless_same=True) as temporary:
        temporary.write_text("same")
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (old.st_ino, old.st_mtime_ns)
    assert everything(tmp_path) == {"data/made": "same"}


def test_without_the_option_it_is_replaced_all_the_same(place, old):
    write_text(place, "same")
    assert place.stat().st_mtime_ns > old.st_mtime_ns


@pytest.mark.parametrize("text", ["some", "longer", ""], ids=["same size", "longer", "empty"])
def test_another_content_replaces_it_also_where_size_and_times_are_the_same(place, old, tmp_path, text):
    with replacing(place, unless_same=True) as temporary:
        temporary.write_text(text)
        os.utime(temporary, (10**9, 10**9))
    assert everything(tmp_path) == {"data/made": text}


def test_where_there_was_none_the_file_appears(place, tmp_path):
    with replacing(place, unless_same=True) as temporary:
        temporary.write_text("new")
    assert everything(tmp_path) == {"data/made": "new"}


def test_an_error_leaves_the_same_file_as_it_was(place, old, tmp_path):
    with pytest.raises(Broken), replacing(place, unless_same=True) as temporary:
        temporary.write_text("same")
        raise Broken
    assert place.stat().st_mtime_ns == old.st_mtime_ns
    assert everything(tmp_path) == {"data/made": "same"}


# One at a time


WAITING = """
import sys
from pathlib import Path
from stages.common.disk.files import one_at_a_time
with one_at_a_time(Path(sys.argv[1])):
    print("has it")
"""


def start(place):
    """Another process that says when it has the lock."""
    command = [sys.executable, "-c", WAITING, str(place)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_another_process_waits_and_says_so(place):
    with one_at_a_time(place):
        other = start(place)
        assert other.stderr.readline() == f"waiting for another run that is making {place}\n"
        assert other.poll() is None
    assert other.communicate(timeout=30) == ("has it\n", "")


@pytest.mark.parametrize("error", [None, Broken])
def test_the_lock_is_let_go_of_whatever_happens(place, capsys, error):
    with pytest.raises(error) if error else contextlib.nullcontext(), one_at_a_time(place):
        if error:
            raise error
    with one_at_a_time(place):
        pass
    assert capsys.readouterr().err == ""


def test_a_killed_process_leaves_no_lock(place):
    place.parent.mkdir()
    code = WAITING.replace('print("has it")', 'print("has it", flush=True); import time; time.sleep(60)')
    with subprocess.Popen([sys.executable, "-c", code, str(place)], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"has it\n"
        other.kill()
    assert start(place).communicate(timeout=30) == ("has it\n", "")


def test_another_place_has_another_lock(place, capsys):
    with one_at_a_time(place), one_at_a_time(place.with_name("other")):
        assert capsys.readouterr().err == ""


def test_other_content_of_the_same_size_and_time_is_taken(place):
    for text in ("same", "same", "diff"):
        with replacing(place, unless_same=True) as temporary:
            temporary.write_text(text)
            os.utime(temporary, (1, 1))
    assert place.read_text() == "diff"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_a_table_is_a_formula(tmp_path, first):
    text = f"{first}HYPERLINK(1)"
    write_csv(tmp_path / "a.csv", ["name", "count"], [[text, -1], [f"a{text}", 0.5]])
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["name", "count"], [f"'{text}", "-1"], [f"a{text}", "0.5"]]
