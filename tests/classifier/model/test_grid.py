"""metrics/grid.csv: what is written is read, and what is damaged is refused."""

import math

import pytest

from stages.classifier.model import grid
from stages.classifier.model.grid import Rule, Trial
from stages.common.errors import InputError

TRIALS = [
    Trial(Rule(0.1, 0.0), 3, 0.25, 0.5, None),
    Trial(Rule(0.001, 1e-5), 40, 1.5, 0.875, 40),
    Trial(Rule(10.0, 0.3), 0, math.inf, 0.0, 1),
]


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid.write(TRIALS)
    return grid.PATH


def test_what_is_written_is_read(written):
    assert grid.read() == TRIALS


def test_it_is_a_table_to_look_at(written):
    assert written.read_text().splitlines() == [
        "head,lr,weight_decay,best_epoch,valid_loss,valid_top1,dropped",
        '"lr 0.1, decay 0",0.1,0.0,3,0.25,0.5,',
        '"lr 0.001, decay 1e-05",0.001,1e-05,40,1.5,0.875,40',
        '"lr 10, decay 0.3",10.0,0.3,,,,1',
    ]


@pytest.mark.parametrize("change", ["", "head\n", "0.25→nan", "0.25→", "0.001→x", "lr,→rate,", "40,1.5→4.5,1.5"])
def test_damage_is_one_sentence(written, change):
    before, arrow, after = change.partition("→")
    written.write_text(written.read_text().replace(before, after) if arrow else change)
    with pytest.raises(InputError, match=r"^metrics/grid\.csv is damaged: run `dvc repro -f train`$"):
        grid.read()


def test_a_missing_table_is_named(written):
    written.unlink()
    with pytest.raises(InputError, match=r"^metrics/grid\.csv is missing: run `dvc repro -f train`$"):
        grid.read()
