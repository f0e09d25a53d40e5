"""What is taken out of the archive of Caltech-256, and what is refused."""

import io
import tarfile

import pytest
from PIL import Image

from stages.common.errors import InputError
from stages.common.params import Dataset
from stages.dataset.sources import caltech256

TOP = "256_ObjectCategories"


def jpeg(colour, side=8):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def add(tar, name, data=b"", kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(data), kind, target
    tar.addfile(member, io.BytesIO(data))


def a_tar(*members):
    """The bytes of a tar of ``(name, data, kind, target)``, the last two optional."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            add(tar, *member)
    return buffer.getvalue()


# Neither the order in the archive nor the alphabet is the order of the numbers.
IMAGES = {
    f"{TOP}/257.clutter/257_0001.jpg": jpeg("grey"),
    f"{TOP}/056.dog/056_0001.jpg": jpeg("brown"),
    f"{TOP}/001.ak47/001_0001.jpg": jpeg("black"),
    f"{TOP}/001.ak47/001_0002.jpg": jpeg("blue"),
    f"{TOP}/198.spider/198_0001.jpg": jpeg("red"),
    f"{TOP}/251.airplanes-101/251_0001.jpg": jpeg("white"),
}
CLASSES = ["ak47", "dog", "spider", "airplanes-101", "clutter"]
ODD = [
    (TOP, b"", tarfile.DIRTYPE),
    (f"{TOP}/001.ak47/", b"", tarfile.DIRTYPE),
    (f"{TOP}/056.dog/greg", b"", tarfile.DIRTYPE),
    (f"{TOP}/056.dog/greg/vision309", b"", tarfile.DIRTYPE),
    (f"{TOP}/056.dog/greg/vision309/056_0009.jpg", jpeg("green")),
    (f"{TOP}/198.spider/RENAME2", b"#!/bin/sh\n"),
    (f"{TOP}/notes.jpg", jpeg("pink")),
    (f"{TOP}/thumbnails/001_0001.jpg", jpeg("pink")),
]
ARCHIVE = a_tar(*ODD[:5], *IMAGES.items(), *ODD[5:])


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def sentence(error):
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text and len(text) < 600
    return text


def save(folder, data):
    path = folder / "some.tar"
    path.write_bytes(data)
    return path


def unpacked(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_unpacks_the_images_of_every_class_in_the_order_of_the_numbers(tmp_path):
    destination = tmp_path / "data" / "images"
    assert caltech256.extract(save(tmp_path, ARCHIVE), destination) == CLASSES
    assert unpacked(destination) == {name.split(".", 1)[1]: data for name, data in IMAGES.items()}
    assert files(tmp_path / "data") == ["images"]


def test_clutter_can_be_left_out(tmp_path):
    destination = tmp_path / "images"
    assert caltech256.extract(save(tmp_path, ARCHIVE), destination, clutter=False) == CLASSES[:-1]
    assert not (destination / "clutter").exists()


def test_names_may_start_with_dot_slash(tmp_path):
    data = a_tar(("./top/001.ak47/001_0001.jpg", jpeg("red")))
    assert caltech256.extract(save(tmp_path, data), tmp_path / "images") == ["ak47"]


def test_replaces_what_was_there_before_and_what_a_killed_run_left(tmp_path):
    for folder in ("images", "images.part"):
        (tmp_path / folder / "old").mkdir(parents=True)
    caltech256.extract(save(tmp_path, ARCHIVE), tmp_path / "images")
    assert files(tmp_path) == ["images", "some.tar"]
    assert sorted(CLASSES) == files(tmp_path / "images")


MALICIOUS = {
    "parent": ("../evil.jpg", b"x"),
    "parent inside": (f"{TOP}/../../evil.jpg", b"x"),
    "parent at the end": (f"{TOP}/001.ak47/..", b"x"),
    "absolute": ("/tmp/evil.jpg", b"x"),
    "folder outside": ("../evil", b"", tarfile.DIRTYPE),
    "symbolic link": (f"{TOP}/001.ak47/001_0009.jpg", b"", tarfile.SYMTYPE, "/etc/passwd"),
    "symbolic link to a folder": (f"{TOP}/001.ak47", b"", tarfile.SYMTYPE, "/tmp"),
    "hard link": (f"{TOP}/001.ak47/001_0009.jpg", b"", tarfile.LNKTYPE, "/etc/passwd"),
    "pipe": (f"{TOP}/001.ak47/001_0009.jpg", b"", tarfile.FIFOTYPE),
    "character device": (f"{TOP}/001.ak47/001_0009.jpg", b"", tarfile.CHRTYPE),
    "block device": (f"{TOP}/001.ak47/001_0009.jpg", b"", tarfile.BLKTYPE),
}


@pytest.mark.parametrize("member", MALICIOUS.values(), ids=MALICIOUS.keys())
def test_a_malicious_member_is_named_and_nothing_unpacked(tmp_path, member):
    archive = save(tmp_path, a_tar(*IMAGES.items(), member))
    with pytest.raises(InputError) as error:
        caltech256.extract(archive, tmp_path / "in" / "images")
    assert repr(member[0]) in sentence(error) and str(archive) in sentence(error)
    assert files(tmp_path) == ["some.tar"]


def test_a_class_named_like_the_parent_folder_is_none(tmp_path):
    data = a_tar((f"{TOP}/002.../evil.jpg", b"x"), (f"{TOP}/003../evil.jpg", b"x"), *IMAGES.items())
    assert caltech256.extract(save(tmp_path, data), tmp_path / "images") == CLASSES
    assert files(tmp_path) == ["images", "some.tar"]


@pytest.mark.parametrize("other", [f"{TOP}/300.dog/1.jpg", "Other/056.dog/1.jpg"])
def test_two_classes_of_one_name(tmp_path, other):
    with pytest.raises(InputError) as error:
        caltech256.extract(save(tmp_path, a_tar(*IMAGES.items(), (other, b"x"))), tmp_path / "images")
    assert "two classes named 'dog'" in sentence(error)
    assert files(tmp_path) == ["some.tar"]


@pytest.mark.parametrize("members", [[], ODD, [("001.ak47/1.jpg", b"x")]], ids=["empty", "odd ones", "no top folder"])
def test_an_archive_without_a_class(tmp_path, members):
    with pytest.raises(InputError) as error:
        caltech256.extract(save(tmp_path, a_tar(*members)), tmp_path / "images")
    assert "has no <folder>/<NNN>.<class>/*.jpg" in sentence(error)


def test_a_truncated_archive_wherever_it_was_cut(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + 512 * -(-last.size // 512)
    destination = tmp_path / "images"
    destination.mkdir()
    (destination / "before").touch()
    for cut in (0, 1, 600, 5000, last.offset - 1, last.offset, last.offset + 100, last.offset_data + 1, end, end + 511):
        with pytest.raises(InputError) as error:
            caltech256.extract(save(tmp_path, ARCHIVE[:cut]), destination)
        assert "some.tar is damaged" in sentence(error), cut
        assert files(tmp_path) == ["images", "some.tar"] and files(destination) == ["before"]


def test_a_damaged_header_in_the_middle(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as tar:
        place = tar.getmembers()[-3].offset
    with pytest.raises(InputError, match="is damaged"):
        caltech256.extract(save(tmp_path, ARCHIVE[:place] + b"x" + ARCHIVE[place + 1 :]), tmp_path / "images")


def test_what_is_no_tar(tmp_path):
    with pytest.raises(InputError, match="no tar archive"):
        caltech256.extract(save(tmp_path, b"<html>" * 1000), tmp_path / "images")


# The source


def test_the_published_archive_is_downloaded_once_per_user_or_the_users_own_taken(tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(published, place):
        asked.append((published, place))
        return save(tmp_path, ARCHIVE)

    monkeypatch.setattr(caltech256, "fetch", fetch)
    monkeypatch.setattr(caltech256.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    own = tmp_path / "own.tar"
    own.touch()
    for path, clutter, wanted in (("data/raw", True, CLASSES), (str(own), False, CLASSES[:-1])):
        chosen = Dataset(name="caltech256", path=path, clutter=clutter, on_bad_image="fail")
        assert caltech256.lay_out(chosen, tmp_path / "images") == wanted
    published = caltech256.PUBLISHED
    assert asked == [(published, tmp_path / "cache/headstart/downloads"), (published, own)]
    assert published.url.endswith(f"/{published.name}") and len(published.md5) == 32
    assert "caltech256: 6 images of 5 classes\n" in capsys.readouterr().out
