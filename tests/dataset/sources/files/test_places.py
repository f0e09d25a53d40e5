"""Where images are, and what is never opened."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.dataset.sources.files import places
from stages.dataset.sources.files.places import Place, Unreadable, content, opened, read, within


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def complaint(place):
    """Why it cannot be opened."""
    with pytest.raises(Unreadable) as refused, opened(place):
        pass
    return str(refused.value)


# By the manifest


def test_a_file_of_its_own_lies_below_the_root():
    place = within("/photos", "red panda/a.tar/b.png", 10, None)
    assert place == Place("/photos/red panda/a.tar/b.png")
    assert place.name == "/photos/red panda/a.tar/b.png"


@pytest.mark.parametrize("archive", ["some.tar", "more/some.tar", "more.old/tar.tar"])
@pytest.mark.parametrize("member", ["cat/a.png", "more.tar/a.png", "a.png"])
def test_an_image_with_an_offset_is_a_piece_of_its_archive(archive, member):
    place = within("/photos", f"{archive}/{member}", 10, 512)
    assert place == Place(f"/photos/{archive}", 512, 10, member)
    assert place.name == f"/photos/{archive}/{member}"


# Read


def test_the_whole_file_or_the_piece_and_its_digest():
    Path("a").write_bytes(b"0123456789")
    for place, data in {
        Place("a"): b"0123456789",
        Place("a", 3, 4): b"3456",
        Place("a", 8, 2): b"89",
        Place("a", 0, 0): b"",
    }.items():
        assert read(place) == (data, hashlib.sha256(data).digest())
        with opened(place) as file:
            assert content(file, place) == data


@pytest.mark.parametrize("place", [Place("a", 8, 3, "b"), Place("a", 10, 1, "b"), Place("a", 500, 1, "b")], ids=str)
def test_a_piece_that_is_not_all_there_is_cut_short(place):
    Path("a").write_bytes(b"0123456789")
    with pytest.raises(InputError, match="^a/b is cut short$"):
        read(place)


def test_a_link_is_followed():
    Path("a").write_bytes(b"data")
    os.symlink("a", "link")
    assert read(Place("link"))[0] == b"data"


# Not read


def test_a_file_too_large_for_an_image_is_not_read():
    with open("a", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="^a has 1,099,511,627,776 bytes, and no image has more than 1,073,741,824$"):
        read(Place("a"))


def test_what_is_not_there_or_closed_or_a_loop():
    os.symlink("gone", "link")
    os.symlink("loop", "loop")
    assert complaint(Place("gone")) == complaint(Place("link")) == "cannot be read (No such file or directory)"
    assert complaint(Place("loop")) == "cannot be read (Too many levels of symbolic links)"
    with pytest.raises(InputError, match=r"^gone cannot be read \(No such file or directory\)$"):
        read(Place("gone"))


def test_what_fails_while_it_is_read_is_said_like_the_rest():
    Path("a").write_bytes(b"data")
    with pytest.raises(Unreadable, match=r"^cannot be read \(Input/output error\)$"), opened(Place("a")):
        raise OSError(5, "Input/output error")


def irregular():
    """Makes one of each kind of what is not a file; the paths of them."""
    os.makedirs("folder")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    os.symlink("/dev/zero", "zero")
    os.symlink("pipe", "link to pipe")
    return ["folder", "pipe", "socket", "/dev/null", "zero", "link to pipe"]


def test_folders_pipes_sockets_and_devices_are_complaints_and_never_opened(monkeypatch):
    found = irregular()

    def never(path, *_):
        pytest.fail(f"{path} was opened")

    monkeypatch.setattr(places, "open", never, raising=False)
    for path in found:
        for place in (Place(path), Place(path, 512, 10, "a.png")):
            wanted = (
                "is a folder: images lie directly in their class's folder"
                if path == "folder"
                else ("is not a file but a pipe, a socket or a device")
            )
            assert complaint(place) == wanted
            with pytest.raises(InputError) as refused:
                read(place)
            assert str(refused.value) == f"{place.name} {wanted}"
