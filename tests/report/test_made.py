"""What made a classifier, as the report says it."""

import pytest

from stages.classifier.model import trained as classifier
from stages.common.settings import params
from stages.report.made import made_of, shown

pytestmark = pytest.mark.xdist_group("trained")


@pytest.fixture
def info(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return classifier.HeadInfo.load(classifier.INFO)


def dataset(**changed):
    given = params.load()
    return given.model_copy(update={"dataset": given.dataset.model_copy(update=changed)})


def test_it_says_all_that_matters_as_params_yaml_does(info):
    found = made_of(params.load(), info, 6)
    assert list(found) == ["Data", "Backbone", "Features", "Training"]
    assert found["Data"] == {
        "dataset.name": "folder", "dataset.path": "photos", "dataset.groups": "null",
        "dataset.on_bad_image": "fail",
        "split.train": "0.55", "split.valid": "0.2", "split.test": "0.25", "split.train_per_class": "null",
        "split.seed": "0", "classes": "3", "images": "12 train, 6 valid, 6 test",
    }  # fmt: skip
    assert found["Backbone"]["weights"] == "random.params"
    assert found["Features"]["cut"] == "pool"
    settings = params.load().train.model_dump(exclude={"trainable"})
    assert found["Training"] == {name: shown(value) for name, value in settings.items()}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("digits", ["groups"]),
        ("folder", ["path", "groups", "on_bad_image"]),
        ("caltech256", ["path", "clutter", "groups", "on_bad_image"]),
    ],
)
def test_keys_of_other_data_sets_are_left_out(info, name, keys):
    data = made_of(dataset(name=name), info, 6)["Data"]
    assert [key for key in data if key.startswith("dataset.")] == [f"dataset.{key}" for key in ["name", *keys]]


def test_what_may_learn_is_said_where_there_is_a_choice(info):
    vgg = info.model_copy(update={"features": info.features.model_copy(update={"cut": "fc6"})})
    assert made_of(params.load(), vgg, 6)["Training"]["trainable"] == "last"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0.01, "0.01"),
        (3, "3"),
        ("adam", "adam"),
        ([0.1, 1], "[0.1, 1]"),
    ],
)
def test_values_are_as_in_params_yaml(value, text):
    assert shown(value) == text
