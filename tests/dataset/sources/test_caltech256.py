"""What is read out of the archive of Caltech-256 where it lies, and what is refused."""

import hashlib
import io
import os
import tarfile
import time

import pytest
from PIL import Image

from stages.common.errors import InputError
from stages.common.settings.params import Dataset
from stages.dataset.sources import caltech256, download
from stages.dataset.sources.files import stamps
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import read, within

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


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The cache folder of the user, who works in another folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    return tmp_path / "home/headstart"


@pytest.fixture
def save(tmp_path, monkeypatch):
    """save(data): a file of the user's with this content, which is taken for what was published; returns its path."""

    def save(data, name="some.tar"):
        path = tmp_path / "own" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        monkeypatch.setenv("HEADSTART_CALTECH256_MD5", hashlib.md5(data).hexdigest())
        return path

    return save


def of(path, clutter=True):
    return Dataset(name="caltech256", path=str(path), clutter=clutter, groups=None, on_bad_image="fail")


def find(chosen):
    return caltech256.find(chosen, Index(None))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def sentence(archive):
    """The message with which the archive is refused; nothing but it is there then."""
    with pytest.raises(InputError) as refused:
        find(of(archive))
    text = str(refused.value)
    assert "\n" not in text and "Traceback" not in text and len(text) < 600
    assert files(archive.parent) == [archive.name]
    return text


# What there is


def test_lists_the_images_of_every_class_in_the_order_of_the_numbers(save):
    archive = save(ARCHIVE)
    listing = find(of(archive))
    assert listing.classes == CLASSES
    assert [image.class_name for image in listing.images] == ["ak47", "ak47", "dog", "spider", *CLASSES[3:]]
    assert {image.path: read(image.place)[0] for image in listing.images} == {
        f"some.tar/{name}": data for name, data in IMAGES.items()
    }
    assert all(image.class_name == image.path.split("/")[2][4:] for image in listing.images)
    assert {image.complaint for image in listing.images} == {None}


def test_offsets_and_sizes_lead_to_the_very_bytes(save):
    archive = save(ARCHIVE)
    for image in find(of(archive)).images:
        place, data = image.place, IMAGES[image.place.member]
        assert ARCHIVE[place.offset : place.offset + place.size] == data
        assert place.name == f"{archive}/{place.member}"
        # As the stages behind it find it by what the manifest says.
        assert within(caltech256.root(of(archive)), image.path, len(data), place.offset) == place


def test_nothing_is_unpacked(save, home, tmp_path):
    archive = save(ARCHIVE)
    find(of(archive))
    assert files(archive.parent) == ["some.tar"]
    assert files(tmp_path / "workspace") == []
    assert not home.exists()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_archives_of_every_kind(save, form):
    names = [f"{TOP}/001.{'dög ' * 20}/{'x' * 60}{number}.jpg" for number in range(2)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name in names:
            add(tar, name, name.encode())
    listing = find(of(save(buffer.getvalue())))
    assert listing.classes == ["dög " * 20]
    assert [read(image.place)[0].decode() for image in listing.images] == names


def test_clutter_can_be_left_out(save):
    listing = find(of(save(ARCHIVE), clutter=False))
    assert listing.classes == CLASSES[:-1]
    assert "clutter" not in {image.class_name for image in listing.images}


def test_names_may_start_with_dot_slash(save):
    archive = save(a_tar(("./top/001.ak47/001_0001.jpg", jpeg("red"))))
    (image,) = find(of(archive)).images
    assert image.class_name == "ak47"
    assert within(archive.parent, image.path, image.place.size, image.place.offset) == image.place
    assert read(image.place)[0] == jpeg("red")


@pytest.mark.parametrize("prefix", ["", "./"])
def test_of_members_of_one_name_the_last_is_meant(save, prefix):
    name = f"{TOP}/001.ak47/001_0001.jpg"
    images = find(of(save(a_tar(*IMAGES.items(), (prefix + name, b"newer"))))).images
    assert len(images) == len(IMAGES)
    assert [read(image.place)[0] for image in images if image.path.endswith(name)] == [b"newer"]


# What is refused


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
    "sparse": (f"{TOP}/001.ak47/001_0009.jpg", b"", tarfile.GNUTYPE_SPARSE),
    "of a kind unknown": (f"{TOP}/001.ak47/001_0009.jpg", b"", b"V"),
    "tab": (f"{TOP}/001.ak47/001\t0009.jpg", b"x"),
    "line break": (f"{TOP}/001.ak47/001_0009.jpg\n", b"x"),
    "carriage return": (f"{TOP}/001.ak\r47/001_0009.jpg", b"x"),
    "not UTF-8": (f"{TOP}/001.ak47/\udcff.jpg", b"x"),
}


@pytest.mark.parametrize("member", MALICIOUS.values(), ids=MALICIOUS.keys())
def test_a_malicious_member_is_named(save, member):
    archive = save(a_tar(*IMAGES.items(), member))
    message = sentence(archive)
    assert f"{archive} has the member {member[0]!r}, which is a link, a device or sparse, lies outside" in message


def sparse(version):
    """A member of which only a piece is there, as GNU tar writes it with ``--format=pax``."""
    member = tarfile.TarInfo(f"{TOP}/001.ak47/001_0009.jpg")
    data = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    member.size = len(data)
    numbers = {"1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": member.name}}
    numbers["0.1"] = {"GNU.sparse.map": "0,1", "GNU.sparse.name": member.name, "GNU.sparse.numblocks": "1"}
    member.pax_headers = {**numbers[version], "GNU.sparse.realsize": "100000", "GNU.sparse.size": "100000"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in IMAGES.items():
            add(tar, name, content)
        tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("version", ["1.0", "0.1"])
def test_a_sparse_member_is_refused_in_newer_archives_too(save, version):
    assert "001.ak47/001_0009.jpg', which is a link, a device or sparse" in sentence(save(sparse(version)))


def test_a_name_with_a_nul_is_refused(save):
    member = tarfile.TarInfo(f"{TOP}/001.ak47/a.jpg")
    member.pax_headers = {"path": f"{TOP}/001.ak47/a\0b.jpg"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    assert "a\\x00b.jpg', which is" in sentence(save(buffer.getvalue()))


def test_a_class_named_like_the_parent_folder_is_none(save):
    odd = [(f"{TOP}/002.../evil.jpg", b"x"), (f"{TOP}/003../evil.jpg", b"x")]
    assert find(of(save(a_tar(*odd, *IMAGES.items())))).classes == CLASSES


@pytest.mark.parametrize("other", [f"{TOP}/300.dog/1.jpg", "Other/056.dog/1.jpg"])
def test_two_classes_of_one_name(save, other):
    assert "two classes named 'dog'" in sentence(save(a_tar(*IMAGES.items(), (other, b"x"))))


@pytest.mark.parametrize("members", [[], ODD, [("001.ak47/1.jpg", b"x")]], ids=["empty", "odd ones", "no top folder"])
def test_an_archive_without_a_class(save, members):
    assert "has no <folder>/<NNN>.<class>/*.jpg" in sentence(save(a_tar(*members)))


def test_a_truncated_archive_wherever_it_was_cut(save):
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + 512 * -(-last.size // 512)
    for cut in (0, 1, 600, 5000, last.offset - 1, last.offset, last.offset + 100, last.offset_data + 1, end, end + 511):
        assert "some.tar is damaged" in sentence(save(ARCHIVE[:cut])), cut


def test_a_damaged_header_in_the_middle(save):
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as tar:
        place = tar.getmembers()[-3].offset
    assert "is damaged" in sentence(save(ARCHIVE[:place] + b"x" + ARCHIVE[place + 1 :]))


@pytest.mark.parametrize("data", [b"<html>" * 1000, b"\x1f\x8b" + b"x" * 2000], ids=["a page", "gzip"])
def test_what_is_no_tar(save, data):
    assert "no tar archive" in sentence(save(data))


@pytest.mark.parametrize("name", ["archive", "256.TAR", "some.tar.gz"])
def test_an_archive_whose_name_says_not_where_it_ends_or_no_list_can_hold(save, name):
    archive = save(ARCHIVE, name)
    assert sentence(archive) == f"dataset.path: {str(archive)!r} does not end in .tar, or no list can hold its name"


# Where it lies


def test_it_is_downloaded_once_per_user_or_the_users_own_taken(save, home, monkeypatch):
    asked = []

    def fetch(published, place):
        asked.append((published, place))
        if place.is_dir() or not place.exists():
            place.mkdir(parents=True)
            (place / published.name).write_bytes(ARCHIVE)

    monkeypatch.setattr(caltech256, "fetch", fetch)
    own, published, downloads = save(ARCHIVE, "own.tar"), caltech256.PUBLISHED, home / "downloads"
    assert caltech256.missing(of("data/raw")) == str(downloads / caltech256.NAME)
    assert find(of("data/raw")).images[0].path.startswith(f"{published.name}/{TOP}/")
    assert caltech256.missing(of("data/raw")) is None and caltech256.root(of("data/raw")) == str(downloads)
    assert len(find(of("data/raw")).images) == len(IMAGES)
    assert caltech256.missing(of(own)) is None and caltech256.root(of(own)) == str(own.parent)
    assert find(of(own)).images[0].path.startswith(f"own.tar/{TOP}/")
    assert asked == [(published, downloads), (published, downloads / published.name), (published, own)]
    assert published.url.endswith(f"/{published.name}") and len(published.md5) == 32


def test_another_archive_than_the_published_is_refused(save):
    archive = save(ARCHIVE)
    archive.write_bytes(a_tar(*IMAGES.items()))
    assert f"{archive} is not Caltech-256 as published" in sentence(archive)


def test_a_changed_archive_is_looked_at_again_and_found_out(save, monkeypatch):
    monkeypatch.setattr(stamps, "TICK", 0)
    archive = save(ARCHIVE)
    time.sleep(0.03)
    assert len(find(of(archive)).images) == len(IMAGES)
    with monkeypatch.context() as patch:
        patch.setattr(download, "_md5", None)  # it is not asked for again
        assert len(find(of(archive)).images) == len(IMAGES)
    times = archive.stat()
    with open(archive, "r+b") as file:
        file.seek(ARCHIVE.index(jpeg("red")))
        file.write(b"other")
    os.utime(archive, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "is not Caltech-256 as published" in sentence(archive)
