"""What the report tells of, from what the stages left."""

import io
import shutil

import pytest
from PIL import Image

from stages.classifier import scores
from stages.classifier.model import curves, trained
from stages.common.settings import params
from stages.common.settings.layout import METRICS
from stages.dataset import lists
from stages.features.stored import records
from stages.report import contents

pytestmark = pytest.mark.xdist_group("trained")


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)


def gathered():
    """What :func:`contents.gather` finds after all stages have run."""
    head = trained.load()
    features, labels = records.read("test")
    metrics = scores.TestMetrics.load(METRICS / "test.json")
    found = scores.softmax(head.logits(features)), [row.path for row in lists.read("test")]
    course, work = curves.read(3), records.Work.load(records.WORK)
    return contents.gather(params.load(), head.info, metrics, labels, *found, course, work)


def test_every_test_image_of_few_is_shown(here):
    found = gathered()
    assert sorted(found.pictures) == list(range(6))
    for picture in found.pictures.values():
        file, seen = (Image.open(io.BytesIO(jpeg)) for jpeg in picture)
        # The whole of it, and the square of the backbone's.
        assert (file.size, seen.size) == ((96, 72), (160, 160))


def test_an_image_that_is_not_at_hand_has_no_picture(here, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(".", copy, symlinks=True)
    monkeypatch.chdir(copy)
    (copy / "photos" / lists.read("test")[1].path).unlink()
    assert [row for row, picture in gathered().pictures.items() if picture is None] == [1]
    shutil.rmtree("photos")
    assert set(gathered().pictures.values()) == {None}


def test_curves_are_as_long_as_the_training(here):
    found = gathered()
    assert {len(values) for curve in (found.curves.loss, found.curves.top1) for values in curve} == {3}
    assert found.curves.top1.valid[found.kept.best_epoch - 1] == pytest.approx(found.kept.valid_top1, abs=1e-6)


def test_the_data_set_and_where_the_report_comes_from_are_named(here):
    found = gathered()
    assert (found.title, found.root) == ("photos", "photos")
    # There is no git repository here.
    assert list(found.origin) == ["date", "headstart", "MXNet", "DVC"]
