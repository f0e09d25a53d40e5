import hashlib
import http.server
import io
import socket
import tarfile
import threading

import pytest
from PIL import Image

from stages.common.errors import InputError
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
MD5 = hashlib.md5(ARCHIVE).hexdigest()


class Mirror(http.server.ThreadingHTTPServer):
    """Serves ``content`` at /a.tar and keeps the Range header of every request in ``ranges``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = ARCHIVE
        self.knows_ranges = True
        self.states_length = True
        self.statuses = []  # for the first requests; then 200 or 206
        self.drops = []  # after how many bytes the first connections break off
        self.ranges = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/a.tar"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mirror = self.server
        asked = self.headers.get("Range")
        mirror.ranges.append(asked)
        start = int(asked[len("bytes=") : -1]) if asked and mirror.knows_ranges else 0
        if mirror.statuses:
            return self.send_error(mirror.statuses.pop(0))
        if self.path == "/moved.tar":
            self.send_response(302)
            self.send_header("Location", "/a.tar")
            return self.end_headers()
        if self.path != "/a.tar":
            return self.send_error(404)
        if start and start >= len(mirror.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if mirror.states_length:
            self.send_header("Content-Length", str(len(mirror.content) - start))
        self.end_headers()
        end = start + mirror.drops.pop(0) if mirror.drops else len(mirror.content)
        self.wfile.write(mirror.content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(caltech256, "BACKOFF", 0)
    monkeypatch.setattr(caltech256, "CHUNK", 1000)  # urllib3 2 drops a chunk that stays incomplete
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def sentence(error):
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text and "urllib3" not in text and len(text) < 600
    return text


# Fetching


def test_downloads_the_archive_into_the_folder(mirror, tmp_path):
    path = caltech256.fetch(tmp_path / "new" / "folder", mirror.url, MD5)
    assert path == tmp_path / "new" / "folder" / "256_ObjectCategories.tar"
    assert path.read_bytes() == ARCHIVE
    assert files(path.parent) == [path.name]
    assert mirror.ranges == [None]


def test_the_environment_names_a_mirror(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CALTECH256_URL", mirror.url)
    monkeypatch.setenv("HEADSTART_CALTECH256_MD5", MD5.upper())
    assert caltech256.fetch(tmp_path).read_bytes() == ARCHIVE


def test_without_the_environment_the_published_archive_is_meant(monkeypatch, tmp_path):
    asked = []
    monkeypatch.delenv("HEADSTART_CALTECH256_URL", raising=False)
    monkeypatch.delenv("HEADSTART_CALTECH256_MD5", raising=False)
    monkeypatch.setattr(caltech256, "_download", lambda url, target, md5: asked.append((url, md5)))
    caltech256.fetch(tmp_path)
    assert asked == [(caltech256.URL, caltech256.MD5)]


def test_an_archive_that_is_there_is_not_asked_for(mirror, tmp_path):
    caltech256.fetch(tmp_path, mirror.url, MD5)
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE
    assert len(mirror.ranges) == 1


def test_two_at_the_same_time_download_once(mirror, tmp_path):
    threads = [threading.Thread(target=caltech256.fetch, args=(tmp_path, mirror.url, MD5)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / caltech256.NAME).read_bytes() == ARCHIVE
    assert mirror.ranges == [None]


def test_a_connection_that_breaks_off_is_continued(mirror, tmp_path):
    mirror.drops = [5000, 1000, 0]
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE
    assert mirror.ranges == [None, "bytes=5000-", "bytes=6000-", "bytes=6000-"]


def test_the_next_run_continues_where_the_last_gave_up(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(caltech256, "DROPS", 1)
    mirror.drops = [5000, 1000]
    with pytest.raises(InputError) as error:
        caltech256.fetch(tmp_path, mirror.url, MD5)
    assert "broke off 2 times" in sentence(error) and "6000 bytes: run again" in sentence(error)
    assert files(tmp_path) == ["256_ObjectCategories.tar.part"]
    mirror.ranges.clear()
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE
    assert mirror.ranges == ["bytes=6000-"]


def test_a_partial_file_that_is_whole_needs_only_the_name(mirror, tmp_path):
    (tmp_path / "256_ObjectCategories.tar.part").write_bytes(ARCHIVE)
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE
    assert mirror.ranges == [f"bytes={len(ARCHIVE)}-"]


def test_a_server_without_ranges_sends_everything_again(mirror, tmp_path):
    mirror.knows_ranges = False
    mirror.drops = [5000]
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE
    assert mirror.ranges == [None, "bytes=5000-"]


def test_a_server_that_does_not_say_how_much_it_sends(mirror, tmp_path):
    mirror.states_length = False
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE


def test_a_redirection_is_followed(mirror, tmp_path):
    mirror.drops = [5000]
    assert caltech256.fetch(tmp_path, mirror.url.replace("a.tar", "moved.tar"), MD5).read_bytes() == ARCHIVE
    assert mirror.ranges == [None, None, "bytes=5000-", "bytes=5000-"]


def test_a_busy_server_is_asked_again(mirror, tmp_path):
    mirror.statuses = [503, 429]
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE


@pytest.mark.parametrize("status, requests", [(404, 1), (403, 1), (503, 4)])
def test_a_server_that_refuses(mirror, tmp_path, status, requests):
    mirror.statuses = [status] * requests
    (tmp_path / "256_ObjectCategories.tar.part").write_bytes(ARCHIVE[:100])
    with pytest.raises(InputError) as error:
        caltech256.fetch(tmp_path, mirror.url, MD5)
    assert mirror.url in sentence(error) and f"answered {status} " in sentence(error)
    assert "HEADSTART_CALTECH256_URL" in sentence(error) and str(tmp_path / caltech256.NAME) in sentence(error)
    assert len(mirror.ranges) == requests
    assert (tmp_path / "256_ObjectCategories.tar.part").read_bytes() == ARCHIVE[:100]


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(caltech256, "BACKOFF", 0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with pytest.raises(InputError) as error:
            caltech256.fetch(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}/a.tar", MD5)
    assert "no connection to the server" in sentence(error)


def test_a_server_that_never_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(caltech256, "RETRIES", 0)
    monkeypatch.setattr(caltech256, "TIMEOUT", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(InputError):
            caltech256.fetch(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar", MD5)


@pytest.mark.parametrize("url", ["mirror.example/a.tar", "ftp://127.0.0.1/a.tar", "http://"])
def test_an_address_that_is_none(tmp_path, url):
    with pytest.raises(InputError) as error:
        caltech256.fetch(tmp_path, url, MD5)
    assert url in sentence(error)


@pytest.mark.parametrize("beginning", [b"", b"stale"])
def test_a_download_of_something_else_is_not_kept(mirror, tmp_path, beginning):
    (tmp_path / "256_ObjectCategories.tar.part").write_bytes(beginning)
    wrong = MD5 if beginning else "0" * 32
    with pytest.raises(InputError) as error:
        caltech256.fetch(tmp_path, mirror.url, wrong)
    assert mirror.url in sentence(error) and wrong in sentence(error)
    assert files(tmp_path) == []
    assert caltech256.fetch(tmp_path, mirror.url, MD5).read_bytes() == ARCHIVE


def test_a_full_disk_is_left_to_the_hook(mirror, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caltech256.tqdm, "update", full)
    with pytest.raises(OSError, match="No space left"):
        caltech256.fetch(tmp_path, mirror.url, MD5)


def test_the_users_own_archive_is_checked_and_used(mirror, tmp_path):
    own = tmp_path / "caltech.tar"
    own.write_bytes(ARCHIVE)
    assert caltech256.fetch(own, mirror.url, MD5) == own
    assert mirror.ranges == []
    own.write_bytes(ARCHIVE[:-1])
    with pytest.raises(InputError) as error:
        caltech256.fetch(own, mirror.url, MD5)
    assert str(own) in sentence(error) and MD5 in sentence(error)
    assert own.exists()


def test_an_own_archive_that_is_not_there(mirror, tmp_path):
    with pytest.raises(InputError, match="there is no archive .*missing.tar"):
        caltech256.fetch(tmp_path / "missing.tar", mirror.url, MD5)
    assert mirror.ranges == [] and files(tmp_path) == []


# Unpacking


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
