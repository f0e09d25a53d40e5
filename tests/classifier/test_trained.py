"""The trained classifier is loaded whole or not at all."""

import shutil

import pytest

from stages.backend.mx import mx
from stages.classifier import trained as classifier
from stages.common.errors import InputError
from stages.features import compute as features

pytestmark = pytest.mark.xdist_group("trained")


@pytest.fixture
def copy(trained, tmp_path, monkeypatch):
    """A copy of what training left, to be spoiled."""
    for name in ("model", "weights"):
        shutil.copytree(trained / "data" / name, tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_recipe_is_that_of_the_features_the_head_was_trained_on(copy):
    recipe, network, about = classifier.load(mx.cpu())
    assert recipe == features.recipe("auto", recipe)
    assert features.fingerprint(recipe).hex() == about["fingerprint"]
    assert network.trained[-1].weight.shape == (3, about["dim"])
    assert about["train"]["epochs"] == 3


@pytest.mark.parametrize(
    "name", ["model/head.json", "model/head.params", "weights/weights.json", "weights/weights.params"]
)
def test_without_one_of_its_files_it_is_not_trained(copy, name):
    (copy / "data" / name).unlink()
    with pytest.raises(InputError) as refused:
        classifier.load(mx.cpu())
    assert str(refused.value) == f"there is no trained classifier here (data/{name} is missing): run `dvc repro` first"


def test_other_weights_than_it_was_trained_on_are_refused(copy):
    path = copy / "data/weights/weights.params"
    data = bytearray(path.read_bytes())
    # A low bit of a number in the middle of the file.
    data[len(data) // 2 // 4 * 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="^data/weights is not what the classifier in data/model was trained on: "):
        classifier.load(mx.cpu())
