"""What the report tells of, from what the stages left."""

import io
import shutil

import pytest
from PIL import Image

from bench.pictures import photo
from stages.backend.mx import mx
from stages.classifier import curves, scores, trained
from stages.common import params
from stages.common.errors import InputError
from stages.common.layout import METRICS, SPLIT
from stages.dataset import lists
from stages.features import records
from stages.report import contents

pytestmark = pytest.mark.xdist_group("trained")


def test_thumbnails_keep_their_shape_and_are_never_enlarged():
    large, small = (Image.open(io.BytesIO(contents.thumbnail(photo(1, size)))) for size in ((640, 320), (8, 8)))
    assert large.size == (160, 80)
    assert small.size == (8, 8)


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)


def gathered(swapped=False):
    """What :func:`contents.gather` finds after all stages have run; swapped: with labels of another list."""
    head, info = trained.load(mx.cpu())
    features, labels = records.read("test")
    logits = head.logits(features)
    metrics = scores.TestMetrics.load(METRICS / "test.json")
    course, work = curves.read(info.train.epochs), records.Work.load(records.WORK)
    labels = labels[::-1] if swapped else labels
    return contents.gather(params.load(), info, metrics, labels, logits, course, work)


def test_every_test_image_of_few_is_shown(here):
    found = gathered()
    rows = lists.read("test")
    assert {row: picture.path for row, picture in found.pictures.items()} == {
        number: row.path for number, row in enumerate(rows)
    }
    assert all(Image.open(io.BytesIO(picture.jpeg)).size == (96, 72) for picture in found.pictures.values())


def test_an_image_that_is_not_at_hand_has_no_picture(here, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(".", copy, symlinks=True)
    monkeypatch.chdir(copy)
    rows = lists.read("test")
    (copy / "photos" / rows[1].path).unlink()
    assert [row for row, picture in gathered().pictures.items() if picture.jpeg is None] == [1]
    shutil.rmtree("photos")
    assert {(rows[row].path, None) for row in range(len(rows))} == set(gathered().pictures.values())


def test_curves_are_as_long_as_the_training(here):
    found = gathered()
    assert {len(values) for curve in (found.curves.loss, found.curves.top1) for values in curve} == {3}
    assert found.curves.top1.valid[found.kept.best_epoch - 1] == pytest.approx(found.kept.valid_top1, abs=1e-6)


def test_what_made_it_says_all_that_matters(here):
    made_of = gathered().made_of
    assert list(made_of) == ["Data", "Backbone", "Features", "Training"]
    assert made_of["Data"]["classes"] == "3"
    assert made_of["Data"]["images"] == "12 train, 6 valid, 6 test"
    assert made_of["Backbone"]["weights"] == "random.params"
    assert made_of["Features"]["cut"] == "pool"
    assert made_of["Training"] == {name: str(value) for name, value in params.load().train}


def test_labels_of_another_list_are_refused(here):
    assert len({row.label for row in lists.read("test")}) > 1
    with pytest.raises(InputError, match=rf"^the features are not those of {SPLIT}/test\.lst: run `dvc repro`$"):
        gathered(swapped=True)
