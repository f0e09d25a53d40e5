"""The images in a folder of archives, and where their classes are written."""

import pytest

from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset.sources import table
from stages.dataset.sources.files.index import Index
from stages.dataset.sources.files.places import read, within
from tests.conftest import ROOT
from tests.dataset.sources.test_caltech256 import a_tar


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)


def find(path="mine", **archives):
    for name, members in archives.items():
        with open(f"mine/{name}.tar", "wb") as file:
            file.write(a_tar(*members.items()))
    chosen = params.load(ROOT / "params.yaml").dataset.model_copy(update={"name": "shards", "path": path})
    return table.of(chosen).find(chosen, Index(None))


def test_members_by_class():
    open("mine/.hidden.tar", "w").close()
    open("mine/notes.txt", "w").close()
    listing = find(b={"dog/1.jpg": b"1"}, a={"./cat/2.weird": b"2", "cat/.hidden": b"", "cat/3.a.png": b"3"})
    assert listing.classes == ["cat", "dog"]
    assert [(image.path, image.class_name) for image in listing.images] == [
        ("a.tar/./cat/2.weird", "cat"),
        ("a.tar/cat/3.a.png", "cat"),
        ("b.tar/dog/1.jpg", "dog"),
    ]
    assert [read(image.place)[0] for image in listing.images] == [b"2", b"3", b"1"]
    for image in listing.images:
        assert within("mine", image.path, image.place.size, image.place.offset) == image.place


def test_samples_with_a_label_beside_the_image():
    samples = {"0/1.jpg": b"1", "0/1.cls": b"7\n", "0/1.json": b'{"label": 8}', "2.PNG": b"2", "2.txt": b"red panda"}
    samples.update({"3.mask.png": b"", "3.jpg": b"3", "3.json": b'{"label": 8}', "3.npy": b"", "3.txt": b" "})
    listing = find(a=samples)
    assert [(image.path, image.class_name) for image in listing.images if image.path != "a.tar/3.mask.png"] == [
        ("a.tar/0/1.jpg", "7"),
        ("a.tar/2.PNG", "red panda"),
        ("a.tar/3.jpg", "8"),
    ]
    assert listing.classes == ["7", "8", "red panda"]
    assert not any(image.complaint for image in listing.images)


@pytest.mark.parametrize("samples", [{"a.jpg": b""}, {"0/a.jpg": b"", "0/a.txt": b" "}, {"x/cat/a.jpg": b""}], ids=str)
def test_an_image_without_a_label_is_complained_of(samples):
    image = find(a={**samples, "cat/b.jpg": b""}).images[0]
    name = next(iter(samples))
    assert image.complaint == (
        f"mine/a.tar/{name} has no label: neither a .cls, .txt, .json beside it, nor a folder of its class"
    )


def test_a_label_that_no_list_can_hold_is_complained_of():
    (image,) = find(a={"a.jpg": b"", "a.txt": b"a\nb"}).images
    assert image.complaint == "mine/a.tar/a.jpg has a label with a tab or a line break in it"


def test_where_there_is_nothing():
    for path, archives, message in (
        ("none", {}, "dataset.path: there is no folder none"),
        ("mine", {}, "there are no .tar files in mine: `python -m stages.shards` packs a folder of images"),
        ("mine", {"a": {"a.txt": b"x"}}, "there are no images in the .tar files of mine"),
    ):
        with pytest.raises(InputError) as refused:
            find(path, **archives)
        assert str(refused.value) == message
