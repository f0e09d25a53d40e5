"""The lists of images: MXNet's own format."""

import numpy as np
import pytest

from bench.pictures import photo
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.common.settings.layout import SPLIT
from stages.dataset import lists
from stages.dataset.lists import Row

ROWS = [Row(0, 0, "cat/a.png"), Row(1, 0, "cat/b c.png"), Row(2, 1, "dög/日本.png")]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_line_is_index_label_and_path_separated_by_tabs():
    lists.write(SPLIT / "train.lst", ROWS)
    text = (SPLIT / "train.lst").read_bytes().decode("utf-8")
    assert text == "0\t0\tcat/a.png\n1\t0\tcat/b c.png\n2\t1\tdög/日本.png\n"


def test_what_is_written_is_read_back():
    lists.write(SPLIT / "train.lst", ROWS)
    assert lists.read("train") == ROWS


def test_a_list_may_be_empty():
    lists.write(SPLIT / "test.lst", [])
    assert lists.read("test") == []


@pytest.mark.parametrize(
    "name", ["a\u2028b.png", "a\x85b.png", "a\x0cb.png", "a\rb.png", " a.png ", "#.png", '"a".png'], ids=ascii
)
def test_odd_characters_in_a_name_survive(name):
    rows = [Row(0, 0, f"cat/{name}"), Row(1, 1, f"{name}/b.png")]
    lists.write(SPLIT / "train.lst", rows)
    assert lists.read("train") == rows


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MXNet's own
def test_mxnet_reads_the_list_and_the_images_it_names(tmp_path):
    lists.write(SPLIT / "train.lst", ROWS)
    photos = tmp_path / "photos"
    for number, row in enumerate(ROWS):
        (photos / row.path).parent.mkdir(parents=True, exist_ok=True)
        photo(number, (8, 8)).save(photos / row.path)
    reader = mx.image.ImageIter(3, (3, 8, 8), path_imglist=str(SPLIT / "train.lst"), path_root=str(photos), aug_list=[])
    batch = next(reader)
    assert batch.label[0].asnumpy().tolist() == [0, 0, 1]
    for number in range(3):
        found = batch.data[0][number].asnumpy().transpose(1, 2, 0)
        assert (found == np.asarray(photo(number, (8, 8)))).all()


def test_a_list_that_is_not_as_it_was_written_is_refused():
    lists.write(SPLIT / "valid.lst", ROWS)
    text = (SPLIT / "valid.lst").read_text(encoding="utf-8")
    (SPLIT / "valid.lst").write_text(text.replace("a.png", "o.png"), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        lists.read("valid")
    message = "data/split/valid.lst is damaged or of another run (its SHA-256 is not that in valid.sha256)"
    assert str(refused.value) == f"{message}: run `dvc repro -f split`"
