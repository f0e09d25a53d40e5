"""What is predicted, and how it is written."""

import io

import numpy as np

from stages.exports import predictions
from stages.exports.predictions import Prediction


def test_the_likeliest_come_first_and_equals_in_the_order_of_the_classes():
    found = predictions.likeliest(np.array([[0.25, 0.5, 0.25], [0.2, 0.2, 0.6]]), ["a", "b", "c"], 2)
    assert found == [[("b", 0.5), ("a", 0.25)], [("c", 0.6), ("a", 0.2)]]
    assert {type(p.probability) for row in found for p in row} == {float}


def test_there_are_no_more_than_classes():
    assert len(predictions.likeliest(np.array([[0.25, 0.75]]), ["a", "b"], 100)[0]) == 2


ROWS = [
    [Prediction("cat", 0.9), Prediction("red panda", 0.1)],
    [Prediction("red panda", 1.0), Prediction("cat", 0.0)],
]


def written(name, paths=("a.jpg", "b/c.jpg"), rows=ROWS):
    file = io.StringIO()
    form = predictions.FORMATS[name]
    form.write(paths, rows, file)
    return form.heading + file.getvalue()


def test_a_table_keeps_its_columns():
    assert written("table") == (
        "a.jpg    cat        0.9000  red panda  0.1000\n"
        "b/c.jpg  red panda  1.0000  cat        0.0000\n"
    )  # fmt: skip


def test_in_a_table_a_name_does_not_begin_a_line():
    assert written("table", ["a\tb\n\rc.jpg"], [[Prediction("cat", 1.0)]]) == "a\\tb\\n\\rc.jpg  cat  1.0000\n"


def test_csv_has_a_row_for_each_class():
    assert written("csv", ["a, b.jpg"], ROWS[:1]) == (
        'image,rank,class,probability\n"a, b.jpg",1,cat,0.9\n"a, b.jpg",2,red panda,0.1\n'
    )


def test_json_has_a_line_for_each_image_and_keeps_every_letter():
    assert written("json", ["ö.jpg"], [[Prediction("dög", 0.5)]]) == (
        '{"image": "ö.jpg", "predictions": [{"class": "dög", "probability": 0.5}]}\n'
    )


def test_nothing_in_csv_is_run_by_a_spreadsheet():
    _, row = written("csv", ["=A1|b.jpg"], [[Prediction("@cat", 0.5)]]).splitlines()
    assert row == "'=A1|b.jpg,1,'@cat,0.5"
