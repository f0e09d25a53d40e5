"""How files and folders get where they belong: whole, or not at all."""

import json
import os

import pytest

from stages.common.files import read_json, replacing, write_json, write_text


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


def test_json_is_read_back_and_can_be_read_by_people(place):
    value = {"classes": ["dög", "cat"], "dim": 3}
    write_json(place, value)
    assert read_json(place) == json.loads(place.read_text(encoding="utf-8")) == value
    assert "dög" in place.read_text(encoding="utf-8")
    assert place.read_text(encoding="utf-8").endswith("}\n")
