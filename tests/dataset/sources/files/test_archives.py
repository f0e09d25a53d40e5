"""What members an archive has, and when it is read through again."""

import os
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.dataset.sources.files import archives, stamps
from stages.dataset.sources.files.index import Index
from tests.dataset.sources.test_caltech256 import MALICIOUS, a_tar


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "TICK", 0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scanned(monkeypatch):
    """The archives that were read through since it was cleared."""
    names, scan = [], archives._members

    def note(tar, file, archive):
        names.append(archive)
        return scan(tar, file, archive)

    monkeypatch.setattr(archives, "_members", note)
    return names


def save(name, *members):
    with open(name, "wb") as file:
        file.write(a_tar(*members))
    time.sleep(0.03)
    return name


def test_members_are_where_they_are_said_to_be(tmp_path):
    inside = {"cat/a.png": b"1" * 700, "./b.png": b"", "c.cls": b" 7\n", "d.JSON": b'{"label": "red", "x": [1]}'}
    data = Path(save("a.tar", ("cat/", b"", tarfile.DIRTYPE), *inside.items())).read_bytes()
    found = archives.members("a.tar", Index(tmp_path))
    assert [(member.name, data[member.offset : member.offset + member.size]) for member in found] == list(
        inside.items()
    )
    assert [member.label for member in found] == [None, None, "7", "red"]


@pytest.mark.parametrize(
    "data", [b"\xff", b"", b" \n", b"[1]", b"{", b'{"label": null}', b'{"label": {}}', b"[" * 100000, b" " * (1 << 21)]
)
def test_what_says_no_label(tmp_path, data):
    (member,) = archives.members(save("a.tar", ("a.json", data)), Index(tmp_path))
    assert member.label is None


def test_it_is_read_through_once_while_it_stays_as_it_is(tmp_path, scanned):
    index = Index(tmp_path)
    save("a.tar", ("cat/a.png", b"1"), ("a.txt", b"x"))
    save("b.tar", ("cat/b.png", b"1"))
    first = [archives.members(name, index) for name in ("a.tar", "b.tar")]
    assert scanned == ["a.tar", "b.tar"]
    scanned.clear()
    assert [archives.members(name, Index(tmp_path)) for name in ("a.tar", "b.tar")] == first
    os.symlink(tmp_path, "link")
    assert archives.members("link/a.tar", index) == first[0]
    assert not scanned
    save("b.tar", ("cat/c.png", b"1"))
    assert archives.members("b.tar", index)[0].name == "cat/c.png"
    assert archives.members("a.tar", index) == first[0]
    assert scanned == ["b.tar"]
    assert archives.members("a.tar", Index(None)) == first[0]
    assert scanned == ["b.tar", "a.tar"]
    os.remove("a.tar")
    assert index.prune() == 1


@pytest.mark.parametrize("member", MALICIOUS.values(), ids=MALICIOUS.keys())
def test_a_malicious_member_is_refused(tmp_path, member):
    with pytest.raises(InputError, match="^a.tar has the member .* which is a link, a device or sparse"):
        archives.members(save("a.tar", ("cat/a.png", b"1"), member), Index(tmp_path))


def test_what_is_cut_short_or_no_archive_is_refused_and_not_kept(tmp_path):
    data = a_tar(("cat/a.png", b"1" * 2000), ("cat/b.png", b"2" * 2000))
    for cut in (0, 100, 1000, 3000, 4000):
        with open("a.tar", "wb") as file:
            file.write(data[:cut])
        time.sleep(0.02)
        for _ in range(2):
            with pytest.raises(InputError, match="^a.tar is damaged or no tar archive"):
                archives.members("a.tar", Index(tmp_path))
    os.remove("a.tar")
    os.mkfifo("a.tar")
    with pytest.raises(InputError, match="^a.tar is not a file but a pipe, a socket or a device$"):
        archives.members("a.tar", Index(tmp_path))


def header(name, size, kind, body=b""):
    """A member of a tar, its header and ``body``."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % tarfile.BLOCKSIZE)


def extended(**values):
    """A header of the member behind it, in the form of POSIX 2001."""
    lines = [f" {key.replace('_', '.')}={value}\n" for key, value in values.items()]
    # The length counts itself: two digits.
    body = "".join(f"{len(line) + 2}{line}" for line in lines).encode()
    return header("pax", len(body), tarfile.XHDTYPE, body)


CRAFTED = {
    "a size beyond any": extended(size=10**30),
    "a map of holes that is none": extended(GNU_sparse_map="x", GNU_sparse_size="y"),
    "a name of 8 GB": header("././@LongLink", 1 << 33, tarfile.GNUTYPE_LONGNAME, b"a/b"),
    "names upon names": header("././@LongLink", 5, tarfile.GNUTYPE_LONGNAME, b"a/bb\0") * 3000,
}


@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED)
def test_headers_that_lead_tarfile_astray_are_refused(tmp_path, crafted):
    Path("a.tar").write_bytes(crafted + header("a/b.png", 2, tarfile.REGTYPE, b"ab") + bytes(1024))
    tracemalloc.start()
    with pytest.raises(InputError, match="^a.tar is damaged or no tar archive .*: delete it and fetch it again$"):
        archives.members("a.tar", Index(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_name_longer_than_a_file_system_takes_is_one_like_others(tmp_path):
    name = f"cat/{'x' * 300}.png"
    assert [member.name for member in archives.members(save("a.tar", (name, b"1")), Index(tmp_path))] == [name]
