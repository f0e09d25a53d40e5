"""Objects in a real S3 store and on a real web server: what is listed and fetched, and how that may fail."""

import functools
import http.server
import math
import os
import sys
import threading
import time
from collections import Counter

import pytest

from bench.pictures import encoded, photo
from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset import looking
from stages.dataset.sources import table
from stages.dataset.sources.files import archives, remote, stores
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import Place, read
from stages.dataset.sources.files.remote import Piece
from stages.dataset.sources.files.stores import Away, Unreadable
from tests.conftest import ROOT
from tests.damage import SOAK
from tests.dataset.sources.test_caltech256 import a_tar
from tests.dataset.stores import BUCKET, served

URL = f"s3://{BUCKET}"
PICTURE = encoded(photo(0, (12, 8)), "PNG")


@pytest.fixture(scope="module")
def server():
    with served() as (store, environment):
        yield store, environment


@pytest.fixture
def store(server, monkeypatch):
    """The store, with a bucket and nothing in it."""
    for name, value in server[1].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stores, "BACKOFF", 0.001)
    server[0].reset()
    return server[0]


@pytest.fixture
def index(tmp_path):
    return Index(tmp_path / "cache")


def find(name, path, index):
    chosen = params.load(ROOT / "params.yaml").dataset.model_copy(update={"name": name, "path": path})
    return table.of(chosen).find(chosen, index)


def look(listing, index):
    return looking.look([image.place for image in listing.images], index, listing.versions)


def asked(store):
    """The requests since this was asked last."""
    requests, store.requests = store.requests, Counter()
    return requests


# What is there


def test_objects_are_listed_by_the_thousand(store):
    store.put({f"a/{n:04}.jpg": b"1" for n in range(1001)})
    store.put({"a/deeper/b": b"22", "dög b/ü.jpg": b"333", "empty/": b""})
    found = remote.listed(URL)
    assert len(found) == 1003 and asked(store) == {("GET", ""): 2}
    assert [(each.path, each.size) for each in found[-2:]] == [("a/deeper/b", 2), ("dög b/ü.jpg", 3)]
    assert len({each.stamp for each in remote.listed(f"{URL}/a", deep=False)}) == 1
    assert [each.path for each in remote.listed(f"{URL}/dög b")] == ["ü.jpg"]


def test_pieces_are_fetched_neighbours_together(store):
    data = os.urandom(1 << 18)
    store.put({"a": data, "dög b": b"0123456789"})
    places = [(1000, 10), (0, 1), (1, 999), (200_000, 7), (1010, 0)]
    pieces = [*(Piece(f"{URL}/a", *place) for place in places), Piece(f"{URL}/dög b"), Piece(f"{URL}/dög b", 3, 2)]
    wanted = [*(data[start : start + size] for start, size in places), b"0123456789", b"34"]
    assert remote.fetch(pieces) == wanted
    assert asked(store) == {("GET", "a"): 2, ("GET", "dög b"): 2}
    assert remote.fetch(pieces[::-1]) == wanted[::-1]
    assert remote.fetch([]) == []


def test_an_object_is_known_by_its_version(store):
    store.put({"a": b"1", "b": b"1"})
    before = remote.stamps([f"{URL}/a", f"{URL}/b", f"{URL}/none"])
    assert set(before) == {f"{URL}/a", f"{URL}/b"}
    assert {f"{URL}/{each.path}": each.stamp for each in remote.listed(URL)} == before
    store.put({"a": b"2"})
    after = remote.stamps(before)
    assert after[f"{URL}/a"] != before[f"{URL}/a"] and after[f"{URL}/b"] == before[f"{URL}/b"]


def test_many_objects_of_a_folder_are_listed_not_asked_for(store):
    store.put({f"a/{n}": b"1" for n in range(150)})
    asked(store)
    assert len(remote.stamps(f"{URL}/a/{n}" for n in range(120))) == 120
    assert asked(store) == {("GET", ""): 1}


# A look


@pytest.mark.soak
def test_only_a_new_object_is_fetched(store, index):
    # Enough for several processes, or for many pages.
    count = 40 if SOAK == 1 else 10_000
    store.put({f"cat/{n}.png": b"%s %d" % (PICTURE, n) for n in range(count)})
    first = look(find("folder", URL, index), index)
    assert not any(seen.complaint for seen in first)
    lists = math.ceil(count / 1000)
    assert {key: times for key, times in asked(store).items() if key[0] == "GET"} == {
        ("GET", ""): lists,
        **{("GET", f"cat/{n}.png"): 1 for n in range(count)},
    }
    store.put({"cat/new.png": PICTURE})
    again = look(find("folder", URL + "/", index), index)
    assert again[:-1] == first
    lists = math.ceil((count + 1) / 1000)
    assert asked(store) == {("GET", ""): lists, ("GET", "cat/new.png"): 1, ("HEAD", "cat/new.png"): 1}
    assert index.prune() == 0


def test_an_object_that_changes_while_it_is_looked_at_is_not_kept(store, index):
    store.put({"cat/a.png": PICTURE})
    listing = find("folder", URL, index)
    store.put({"cat/a.png": encoded(photo(1, (12, 8)), "PNG")})
    look(listing, index)
    assert index.count() == 0


@pytest.mark.soak
def test_only_a_new_archive_is_read(store, index):
    count = 3 if SOAK == 1 else 100
    store.put({f"{n}.tar": a_tar((f"cat/{n}.png", PICTURE), (f"dog/{n}.png", PICTURE)) for n in range(count)})
    first = look(find("shards", URL, index), index)
    assert [seen.complaint for seen in first] == [None] * 2 * count
    asked(store)
    store.put({"new.tar": a_tar(("cat/3.png", PICTURE), ("x.png", PICTURE), ("x.cls", b"5"))})
    listing = find("shards", URL, index)
    assert listing.classes == ["5", "cat", "dog"]
    assert look(listing, index) == [*first, first[0], first[0]]
    assert {key for _, key in asked(store)} == {"", "new.tar"}
    assert {read(image.place)[0] for image in listing.images[-4:]} == {PICTURE}


def test_a_list_in_a_store_names_objects_and_files(store, index, tmp_path):
    (tmp_path / "b.png").write_bytes(PICTURE)
    lines = f"path,class\ncat/a.png,cat\n{tmp_path}/b.png,dog\n{URL}/else.png,dog\n"
    store.put({"lists/l.csv": lines.encode(), "lists/cat/a.png": PICTURE, "else.png": PICTURE})
    listing = find("list", f"{URL}/lists/l.csv", index)
    places = [f"{URL}/lists/cat/a.png", f"{tmp_path}/b.png", f"{URL}/else.png"]
    assert [image.place.path for image in listing.images] == places
    assert [seen.complaint for seen in look(listing, index)] == [None] * 3


# On a web server


@pytest.fixture
def website(tmp_path, monkeypatch):
    """The folder of a web server, and its address. It knows no parts and no versions, only dates."""
    monkeypatch.setattr(stores, "BACKOFF", 0.001)
    (tmp_path / "site").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *arguments: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "site", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_folder_on_a_web_server(website, index, monkeypatch):
    folder, url = website
    for path in ("cat/a.png", "dög b/ü 1.png"):
        (folder / path).parent.mkdir()
        (folder / path).write_bytes(PICTURE)
        os.utime(folder / path, (1, 1))
    listing = find("folder", url, index)
    assert listing.classes == ["cat", "dög b"]
    assert [seen.complaint for seen in look(listing, index)] == [None, None]
    assert index.count() == 2
    monkeypatch.setattr(remote, "BLOCK", 1024)
    (archive := folder / "a.tar").write_bytes(a_tar(("cat/a.png", PICTURE)))
    with pytest.raises(InputError, match="a.tar cannot be read: the server sends no parts of it$"):
        archives.members(f"{url}/{archive.name}", index, remote.stamps([f"{url}/a.tar"])[f"{url}/a.tar"])


# Faults


@pytest.mark.parametrize(
    ("fault", "why", "tries"),
    [
        (404, "the server has no such object", 1),
        (403, "the server refuses (are the credentials in the environment right?)", 1),
        (400, "the server answers 400", 1),
        (500, "the server answers 500", stores.TRIES),
        (503, "the server answers 503", stores.TRIES),
        ("short", "the connection fails (ClientPayloadError)", stores.TRIES),
    ],
)
def test_what_cannot_be_fetched_is_told_in_a_few_words(store, fault, why, tries):
    store.put({"a.png": PICTURE})
    store.fault = lambda method, key: fault
    with pytest.raises(InputError) as refused:
        read(Place(f"{URL}/a.png"))
    assert str(refused.value) == f"{URL}/a.png cannot be read: {why}"
    assert asked(store)["GET", "a.png"] == tries
    if fault != "short":
        with pytest.raises(Away if tries > 1 else InputError) as refused:
            remote.listed(URL)
        assert str(refused.value) == f"{URL} cannot be listed: {why}"


def test_a_fault_now_and_then_is_tried_again(store, index):
    store.put({f"cat/{n}.png": PICTURE for n in range(20)})
    times = Counter()

    def fault(method, key):
        times[method, key] += 1
        # Of a list, and of what is said of an object, the first answer fails; of an object the second too.
        return {1: 500, 2: "short" if method == "GET" and key else None}.get(times[method, key])

    store.fault = fault
    found = look(find("folder", URL, index), index)
    assert [seen.complaint for seen in found] == [None] * 20


def test_the_longer_it_fails_the_longer_it_is_waited_for(store, monkeypatch):
    waits = []
    monkeypatch.setattr(stores, "BACKOFF", 0.5)
    monkeypatch.setattr(stores.time, "sleep", waits.append)
    store.fault = lambda method, key: 500
    remote.fetch([Piece(f"{URL}/a")])
    with pytest.raises(Away):
        remote.listed(URL)
    assert waits == [0.5, 1, 2, 4] * 2


def test_a_library_that_tries_again_by_itself_is_asked_once(monkeypatch):
    monkeypatch.setattr(stores, "BACKOFF", 0)
    times = []

    def request(url):
        times.append(url)
        raise TimeoutError

    for url, count in (("gs://a/b", 1), ("az://a/b", 1), ("s3://a/b", stores.TRIES)):
        with pytest.raises(stores.Failed):
            stores.retried(request, url)
        assert times.count(url) == count


def test_a_look_that_fails_for_the_moment_is_no_bad_image(store, index):
    store.put({"cat/a.png": PICTURE, "cat/b.png": PICTURE})
    listing = find("folder", URL, index)
    store.fault = lambda method, key: 500 if key == "cat/b.png" else None
    with pytest.raises(
        InputError, match="/cat/b.png cannot be read: the server answers 500: run the same command again$"
    ):
        look(listing, index)
    store.fault = lambda method, key: 404 if key == "cat/b.png" else None
    assert look(listing, index)[1].complaint == "cannot be read: the server has no such object"


def test_a_server_that_does_not_answer(store, monkeypatch):
    monkeypatch.setattr(stores, "TIMEOUTS", (0.2, 0.2))
    monkeypatch.setattr(stores, "TRIES", 1)
    store.put({"a.png": PICTURE})
    store.fault = lambda method, key: time.sleep(1)
    with pytest.raises(InputError, match="a.png cannot be read: no answer in time$"):
        read(Place(f"{URL}/a.png"))


def test_nobody_there(monkeypatch):
    monkeypatch.setattr(stores, "BACKOFF", 0)
    with pytest.raises(Away, match=r"^http://127.0.0.1:9/a cannot be asked for: the connection fails \(Client.*\)$"):
        remote.stamps(["http://127.0.0.1:9/a"])


def test_an_archive_cut_short_or_gone(store, index):
    data = a_tar(("cat/a.png", b"1" * 3000), ("cat/b.png", b"2" * 3000))
    store.put({"a.tar": data[:5000]})
    with pytest.raises(InputError, match="/a.tar is damaged or no tar archive"):
        find("shards", URL, index)
    store.put({"a.tar": data})
    store.fault = lambda method, key: 404 if key else None
    with pytest.raises(InputError, match="/a.tar cannot be read: the server has no such object$"):
        find("shards", URL, index)


def test_a_library_that_is_missing_and_a_store_that_there_is_not(monkeypatch):
    with pytest.raises(InputError, match="^nosuch://a/b begins with nosuch://, which fsspec does not know$"):
        remote.listed("nosuch://a/b")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(Away, match="^to read gs:// addresses a library is missing .*requirements-remote.txt`$"):
        remote.listed("gs://a/b")


def test_neither_credentials_nor_signatures_are_in_params_or_lists(store, index, tmp_path):
    for secret in ("s3://me:pw@photos/a", "https://a/b?x=1&X-Amz-Signature=abc", "https://a/b.png?sig=abc"):
        chosen = params.load(ROOT / "params.yaml").dataset.model_dump()
        with pytest.raises(ValueError, match="must have no password or signature in it"):
            params.Dataset(**{**chosen, "path": secret})
        (tmp_path / "l.csv").write_text(f"path,class\n{secret},cat\n")
        with pytest.raises(InputError, match="l.csv, line 2: a password or signature is in the path") as refused:
            find("list", str(tmp_path / "l.csv"), index)
        assert "abc" not in str(refused.value) and "pw" not in str(refused.value)


def test_unreadable_is_what_is_returned(store):
    assert all(isinstance(each, Unreadable) for each in remote.fetch([Piece(f"{URL}/none"), Piece(f"{URL}/x", 1, 2)]))
