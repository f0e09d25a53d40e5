"""Fetching a published file, from a server on this machine."""

import hashlib
import http.server
import os
import socket
import threading
import time

import numpy as np
import pytest

from stages.common.errors import InputError
from stages.dataset.sources import download, transfer
from stages.dataset.sources.download import Published, fetch
from stages.dataset.sources.files import stamps

NAME = "256_ObjectCategories.tar"
ARCHIVE = np.random.default_rng(0).bytes(20_000)
MD5 = hashlib.md5(ARCHIVE).hexdigest()


def at(url, md5=MD5):
    return Published("Caltech-256", NAME, url, md5, "HEADSTART_CALTECH256")


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


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home")))
    for variable in ("HEADSTART_CALTECH256_URL", "HEADSTART_CALTECH256_MD5"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(transfer, "BACKOFF", 0)


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setattr(transfer, "CHUNK", 1000)  # urllib3 2 drops a chunk that stays incomplete
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


def test_downloads_the_archive_into_the_folder(mirror, tmp_path):
    path = fetch(at(mirror.url), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "256_ObjectCategories.tar"
    assert path.read_bytes() == ARCHIVE
    assert files(path.parent) == [path.name]
    assert mirror.ranges == [None]


def test_the_environment_names_a_mirror(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CALTECH256_URL", mirror.url)
    monkeypatch.setenv("HEADSTART_CALTECH256_MD5", MD5.upper())
    assert fetch(at("http://127.0.0.1:9/a.tar", "0" * 32), tmp_path).read_bytes() == ARCHIVE


def test_an_archive_that_is_there_is_not_asked_for(mirror, tmp_path):
    fetch(at(mirror.url), tmp_path)
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE
    assert len(mirror.ranges) == 1


def test_two_at_the_same_time_download_once(mirror, tmp_path):
    threads = [threading.Thread(target=fetch, args=(at(mirror.url), tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / NAME).read_bytes() == ARCHIVE
    assert mirror.ranges == [None]


def test_a_connection_that_breaks_off_is_continued(mirror, tmp_path):
    mirror.drops = [5000, 1000, 0]
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE
    assert mirror.ranges == [None, "bytes=5000-", "bytes=6000-", "bytes=6000-"]


def test_the_next_run_continues_where_the_last_gave_up(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "DROPS", 1)
    mirror.drops = [5000, 1000]
    with pytest.raises(InputError) as error:
        fetch(at(mirror.url), tmp_path)
    assert "broke off 2 times" in sentence(error) and "6000 bytes: run again" in sentence(error)
    assert files(tmp_path) == ["256_ObjectCategories.tar.part"]
    mirror.ranges.clear()
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE
    assert mirror.ranges == ["bytes=6000-"]


def test_a_partial_file_that_is_whole_needs_only_the_name(mirror, tmp_path):
    (tmp_path / "256_ObjectCategories.tar.part").write_bytes(ARCHIVE)
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE
    assert mirror.ranges == [f"bytes={len(ARCHIVE)}-"]


def test_a_server_without_ranges_sends_everything_again(mirror, tmp_path):
    mirror.knows_ranges = False
    mirror.drops = [5000]
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE
    assert mirror.ranges == [None, "bytes=5000-"]


def test_a_server_that_does_not_say_how_much_it_sends(mirror, tmp_path):
    mirror.states_length = False
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE


def test_a_redirection_is_followed(mirror, tmp_path):
    mirror.drops = [5000]
    assert fetch(at(mirror.url.replace("a.tar", "moved.tar")), tmp_path).read_bytes() == ARCHIVE
    assert mirror.ranges == [None, None, "bytes=5000-", "bytes=5000-"]


def test_a_busy_server_is_asked_again(mirror, tmp_path):
    mirror.statuses = [503, 429]
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE


@pytest.mark.parametrize("status, requests", [(404, 1), (403, 1), (503, 4)])
def test_a_server_that_refuses(mirror, tmp_path, status, requests):
    mirror.statuses = [status] * requests
    (tmp_path / "256_ObjectCategories.tar.part").write_bytes(ARCHIVE[:100])
    with pytest.raises(InputError) as error:
        fetch(at(mirror.url), tmp_path)
    assert mirror.url in sentence(error) and f"answered {status} " in sentence(error)
    assert "HEADSTART_CALTECH256_URL" in sentence(error) and str(tmp_path / NAME) in sentence(error)
    assert len(mirror.ranges) == requests
    assert (tmp_path / "256_ObjectCategories.tar.part").read_bytes() == ARCHIVE[:100]


def test_a_server_that_is_not_there(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with pytest.raises(InputError) as error:
            fetch(at(f"http://127.0.0.1:{closed.getsockname()[1]}/a.tar"), tmp_path)
    assert "no connection to the server" in sentence(error)


def test_a_server_that_never_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "RETRIES", 0)
    monkeypatch.setattr(transfer, "TIMEOUT", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(InputError):
            fetch(at(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar"), tmp_path)


@pytest.mark.parametrize("url", ["mirror.example/a.tar", "ftp://127.0.0.1/a.tar", "http://"])
def test_an_address_that_is_none(tmp_path, url):
    with pytest.raises(InputError) as error:
        fetch(at(url), tmp_path)
    assert url in sentence(error)


@pytest.mark.parametrize("beginning", [b"", b"stale"])
def test_a_download_of_something_else_is_not_kept(mirror, tmp_path, beginning):
    (tmp_path / "256_ObjectCategories.tar.part").write_bytes(beginning)
    wrong = MD5 if beginning else "0" * 32
    with pytest.raises(InputError) as error:
        fetch(at(mirror.url, wrong), tmp_path)
    assert mirror.url in sentence(error) and wrong in sentence(error)
    assert files(tmp_path) == []
    assert fetch(at(mirror.url), tmp_path).read_bytes() == ARCHIVE


def test_a_full_disk_is_left_to_the_hook(mirror, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer.tqdm, "update", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(at(mirror.url), tmp_path)


def test_the_users_own_archive_is_checked_and_used(mirror, tmp_path):
    own = tmp_path / "caltech.tar"
    own.write_bytes(ARCHIVE)
    assert fetch(at(mirror.url), own) == own
    assert mirror.ranges == []
    own.write_bytes(ARCHIVE[:-1])
    with pytest.raises(InputError) as error:
        fetch(at(mirror.url), own)
    assert str(own) in sentence(error) and MD5 in sentence(error)
    assert own.exists()


def test_an_own_archive_that_is_not_there(mirror, tmp_path):
    with pytest.raises(InputError, match="there is no archive .*missing.tar"):
        fetch(at(mirror.url), tmp_path / "missing.tar")
    assert mirror.ranges == [] and files(tmp_path) == []


# The MD5 of a file that is there


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's own archive, and no file need be seconds old for its MD5 to be noted."""
    monkeypatch.setattr(stamps, "TICK", 0)
    path = tmp_path / "own.tar"
    path.write_bytes(ARCHIVE)
    time.sleep(0.03)
    return path


@pytest.fixture
def hashed(monkeypatch):
    """The files whose MD5 was taken."""
    paths, md5 = [], download._md5

    def note(path):
        paths.append(path)
        return md5(path)

    monkeypatch.setattr(download, "_md5", note)
    return paths


def test_it_is_taken_once_of_a_file_that_does_not_change(own, hashed):
    for _ in range(3):
        assert fetch(at("http://127.0.0.1:9/a.tar"), own) == own
    assert hashed == [own]


def test_it_is_taken_once_of_what_was_downloaded_too(mirror, tmp_path, monkeypatch, hashed):
    monkeypatch.setattr(stamps, "TICK", 0)
    for _ in range(3):
        target = fetch(at(mirror.url), tmp_path)
        time.sleep(0.03)
    # As it comes, and once more when its stamp is sure to tell of changes.
    assert hashed == [target.with_name(f"{NAME}.part"), target]
    assert len(mirror.ranges) == 1


def test_it_is_taken_again_where_the_file_was_touched_or_another_one_is_expected(own, hashed):
    published = at("http://127.0.0.1:9/a.tar")
    fetch(published, own)
    os.utime(own, (10**9, 10**9))
    fetch(published, own)
    with pytest.raises(InputError, match="is not Caltech-256 as published"):
        fetch(published._replace(md5="0" * 32), own)
    assert hashed == [own] * 3


def test_a_file_of_the_same_size_and_time_in_its_place_is_noticed(own):
    published = at("http://127.0.0.1:9/a.tar")
    fetch(published, own)
    times = own.stat()
    time.sleep(0.03)
    own.write_bytes(ARCHIVE[::-1])
    os.utime(own, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(InputError, match="is not Caltech-256 as published"):
        fetch(published, own)


def test_a_file_that_was_just_written_is_not_taken_for_known(tmp_path, hashed):
    own = tmp_path / "own.tar"
    own.write_bytes(ARCHIVE)
    for _ in range(2):
        fetch(at("http://127.0.0.1:9/a.tar"), own)
    assert hashed == [own] * 2


def test_a_file_that_changes_while_it_is_looked_at_is_noticed(own, monkeypatch):
    published, md5 = at("http://127.0.0.1:9/a.tar"), download._md5

    def changed_meanwhile(path):
        found = md5(path)
        path.write_bytes(ARCHIVE[::-1])
        os.utime(path, (10**9, 10**9))  # as `cp -p` does
        return found

    with monkeypatch.context() as patch:
        patch.setattr(download, "_md5", changed_meanwhile)
        fetch(published, own)
    with pytest.raises(InputError, match="is not Caltech-256 as published"):
        fetch(published, own)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0" * 100])
def test_a_damaged_note_costs_a_look(own, hashed, damage):
    published = at("http://127.0.0.1:9/a.tar")
    fetch(published, own)
    (note,) = download._notice(own).parent.glob("*.checked")
    note.write_bytes(damage)
    for _ in range(2):
        fetch(published, own)
    assert hashed == [own] * 2


def test_where_nothing_can_be_noted_it_is_taken_every_time(own, hashed, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        fetch(at("http://127.0.0.1:9/a.tar"), own)
    assert hashed == [own] * 2
