"""The digits of scikit-learn: they lie once for every user, whole."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from stages.common.caches.folders import user_cache
from stages.common.errors import InputError
from stages.common.settings.params import Dataset
from stages.dataset.sources import digits
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import Place
from tests.conftest import ROOT

CHOSEN = Dataset(name="digits", path="data/raw", clutter=True, groups=None, on_bad_image="fail")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A user's cache folder in which they lie."""
    home = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        digits.find(CHOSEN, Index(None))
    return home


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's cache folder of this test alone; the workspace is another folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    return tmp_path / "home"


@pytest.fixture
def there(written, home):
    """The folder of the digits in ``home``, where they lie already."""
    shutil.copytree(written, home)
    return Path(digits.root(CHOSEN))


def contents(folder):
    """{path: digest} of what lies in ``folder``."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def stamps(folder):
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*.png")}


def test_they_are_those_of_scikit_learn(there):
    data, listing = load_digits(), digits.find(CHOSEN, Index(None))
    assert listing.classes == [str(digit) for digit in range(10)]
    assert len(listing.images) == len({image.path for image in listing.images}) == len(data.target) == 1797
    for image in listing.images:
        number = int(Path(image.path).stem)
        assert image.path == f"{data.target[number]}/{number:04}.png"
        assert (image.class_name, image.complaint) == (str(data.target[number]), None)
        assert image.place == Place(f"{there}/{image.path}")
        with Image.open(image.place.path) as picture:
            np.testing.assert_allclose(np.asarray(picture) / 255 * 16, data.images[number], atol=0.05)


def test_they_lie_in_the_users_cache_folder_and_nowhere_else(home, monkeypatch):
    assert Path(digits.root(CHOSEN)) == user_cache() / "digits" == home / "headstart" / "digits"
    assert digits.missing(CHOSEN) is None  # before they are written, too
    digits.find(CHOSEN, Index(None))
    assert sorted(path.name for path in (home / "headstart").iterdir()) == ["digits", "digits.lock"]
    assert list(Path().iterdir()) == []


def test_they_are_written_once_for_all_workspaces(there, tmp_path, monkeypatch):
    before = stamps(there)
    monkeypatch.setattr(digits, "_write", None)
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")
    assert len(digits.find(CHOSEN, Index(None)).images) == 1797
    assert stamps(there) == before


def damage_one(folder):
    (folder / "3/0003.png").unlink()


def damage_class(folder):
    shutil.rmtree(folder / "3")


def damage_all(folder):
    shutil.rmtree(folder)


def leave_a_beginning(folder):
    shutil.rmtree(folder)
    (folder.parent / "digits.tmp" / "0").mkdir(parents=True)
    (folder.parent / "digits.tmp/0/0000.png").write_bytes(b"half")


@pytest.mark.parametrize("damage", [damage_one, damage_class, damage_all, leave_a_beginning])
def test_where_one_is_missing_they_are_written_anew(there, damage):
    whole = contents(there)
    damage(there)
    assert len(digits.find(CHOSEN, Index(None)).images) == 1797
    assert contents(there) == whole
    assert sorted(path.name for path in there.parent.iterdir()) == ["digits", "digits.lock"]


def test_a_failure_leaves_what_was_there(there, monkeypatch):
    damage_one(there)
    before = contents(there)
    monkeypatch.setattr(digits, "_table", lambda: Path("nowhere.csv.gz"))
    with pytest.raises(OSError):
        digits.find(CHOSEN, Index(None))
    assert contents(there) == before
    assert not (there.parent / "digits.tmp").exists()


def test_without_scikit_learn_it_says_what_to_do(home, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="^scikit-learn, which brings the digits, is not installed: run `make setup`$"):
        digits.find(CHOSEN, Index(None))


# Says when it writes them, and takes long enough for the other processes to come.
FIND = f"""
import os, sys, time
from stages.common.settings.params import Dataset
from stages.dataset.sources.files.index import Index
from stages.dataset.sources import digits

write = digits._write

def slowly(destination):
    print("writes", flush=True)
    time.sleep(1)
    write(destination)

digits._write = slowly
listing = digits.find(Dataset(**{CHOSEN.model_dump()}), Index(None))
print(len(listing.images), all(os.path.isfile(image.place.path) for image in listing.images))
"""


def test_several_processes_write_them_once_and_each_finds_them_whole(home):
    others = [
        subprocess.Popen([sys.executable, "-c", FIND], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    printed = [other.communicate(timeout=60)[0].splitlines() for other in others]
    assert sorted(printed, key=len) == [["1797 True"], ["1797 True"], ["writes", "1797 True"]]
