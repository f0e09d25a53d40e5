"""A folder of images packed into archives."""

import os
import tarfile
from pathlib import Path

import pytest

from stages import shards
from stages.common.errors import InputError

FILES = {f"mine/{name}/{n}.png": f"{name} {n}".encode() * 200 * n for name in ("cat", "dög b") for n in range(8)}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, data in FILES.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)


def pack(*arguments):
    shards.main(["mine", "out", *arguments])
    return sorted(Path("out").iterdir())


def test_every_image_is_in_one_archive_of_at_most_the_size(capsys):
    archives = pack("--size", "20KB")
    assert capsys.readouterr().out == f"16 images in {len(archives)} archives in out\n"
    assert len(archives) > 3
    found = {}
    for archive in archives:
        with tarfile.open(archive) as tar:
            # Padding comes on top.
            assert tar.getmembers()[-1].offset_data + tar.getmembers()[-1].size <= 20_000
            found.update({f"mine/{member.name}": tar.extractfile(member).read() for member in tar.getmembers()})
    assert list(found.items()) == sorted(FILES.items())


def test_the_same_images_give_the_same_bytes():
    before = [path.read_bytes() for path in pack()]
    os.rename("out", "other")
    os.utime("mine/cat/1.png", (1, 1))
    assert [path.read_bytes() for path in pack()] == before and len(before) == 1


def test_an_image_larger_than_the_size_has_an_archive_of_its_own():
    assert len(pack("--size", "1")) == 16


def test_what_is_not_packed():
    os.symlink("gone", "mine/cat/x.png")
    with pytest.raises(InputError, match="^mine/cat/x.png cannot be read"):
        pack()
    assert not Path("out").exists() and not Path("out.tmp").exists()
    os.mkdir("out")
    with pytest.raises(InputError, match="^out is there already"):
        pack()


@pytest.mark.parametrize("size", ["0", "-1", "many", "1TB"])
def test_a_size_that_is_none(size, capsys):
    with pytest.raises(SystemExit):
        pack(f"--size={size}")
    assert "must be a size like 256MB" in capsys.readouterr().err
