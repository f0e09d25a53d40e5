"""What is listed of a folder of the user's; what the stage images makes of it is tested there."""

import pytest

from stages.common.errors import InputError
from stages.common.settings.params import Dataset
from stages.dataset.sources import folder
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import Place, within
from stages.dataset.sources.source import Listed, listable


def of(path):
    return Dataset(name="folder", path=str(path), clutter=True, groups=None, on_bad_image="fail")


@pytest.fixture
def photos(tmp_path):
    for path in ("dög/2.png", "dög/1.png", "cat/a b", "empty/.hidden", ".git/HEAD", "loose.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    return tmp_path


def test_lists_folder_by_folder_and_opens_nothing(photos, monkeypatch):
    monkeypatch.setattr("builtins.open", None)
    listing = folder.find(of(photos), Index(None))
    assert listing.classes == ["cat", "dög", "empty"]
    assert listing.images == [
        Listed(path, path.split("/")[0], Place(f"{photos}/{path}")) for path in ("cat/a b", "dög/1.png", "dög/2.png")
    ]


def test_the_place_of_an_image_is_that_which_the_manifest_gives(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("HOME", str(photos.parent))
    for path in (photos, photos.name, f"./{photos.name}/", f"~/{photos.name}", "."):
        if path == ".":
            monkeypatch.chdir(photos)
        for image in folder.find(of(path), Index(None)).images:
            assert within(folder.root(of(path)), image.path, 0, None) == image.place


def test_what_is_not_there_is_missing(photos):
    assert folder.missing(of(photos)) is None
    assert folder.missing(of(photos / "none")) == str(photos / "none")
    # That is a wrong path, not images that are elsewhere today.
    assert folder.missing(of(photos / "loose.txt")) is None
    with pytest.raises(InputError, match="^dataset.path: there is no folder "):
        folder.find(of(photos / "loose.txt"), Index(None))
    assert folder.root(of("data/raw")) == folder.root(of("./data/raw/")) == "data/raw"


def test_which_names_a_list_can_hold():
    for name in ("a.png", "dög/日本 🐕.png", " ", "-a", "a\u2028b", "a\x0cb", "a\x85b"):
        assert listable(name), ascii(name)
    for name in ("a\tb", "a\nb", "a\rb", "a\0b", "a\udcffb"):
        assert not listable(name), ascii(name)
