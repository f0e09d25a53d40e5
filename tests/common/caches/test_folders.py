"""Where the caches of a user are."""

from pathlib import Path

import pytest

from stages.common.caches.folders import CACHE_VARIABLE, cache_folder, user_cache
from stages.common.errors import InputError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The user's cache folder is in here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_the_users_cache_folder_is_where_the_desktop_has_it(home):
    assert user_cache() == home / "headstart"
    assert not home.exists()  # to ask makes nothing


def test_auto_is_in_it_off_is_none_and_a_folder_is_taken_from_here(home, tmp_path):
    assert cache_folder("auto") == home / "headstart" / "features"
    assert cache_folder("off") is None
    assert cache_folder("mine") == tmp_path / "mine"
    assert cache_folder("/else/where") == Path("/else/where")


@pytest.mark.parametrize("setting", ["auto", "off", "mine"])
def test_the_environment_goes_before_the_params(tmp_path, monkeypatch, setting):
    monkeypatch.setenv(CACHE_VARIABLE, "theirs")
    assert cache_folder(setting) == tmp_path / "theirs"
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    assert cache_folder(setting) is None
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert cache_folder("mine") == tmp_path / "mine"


def test_the_environment_may_ask_for_auto(home, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, "auto")
    assert cache_folder("off") == home / "headstart" / "features"


def test_the_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("~/mine") == tmp_path / "home" / "mine"
    with pytest.raises(InputError, match="there is no home folder ~nobody.at.all: write the folder out"):
        cache_folder("~nobody.at.all/mine")
