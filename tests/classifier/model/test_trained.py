"""data/model is whole: what was trained is loaded from it alone, or not at all."""

import json
import os
import shutil

import numpy as np
import pytest

from stages.backbones import parameters, zoo
from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier.model import trained
from stages.common.disk import sums
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import MODEL, WEIGHTS
from stages.features.stored.records import ABOUT
from tests.classifier.made import chosen, features_info, network

CPU = mx.cpu()


def noise(*shape, seed=0):
    return mx.nd.array(np.random.default_rng(seed).standard_normal(shape, np.float32))


def built(cut="fc6", trainable="last", seed=1):
    """A head of three classes with some values in its last layer."""
    made = head.build(network(), cut, 3, 0.5, trainable, [CPU])
    made.trained[-1].initialize()
    made.trained[-1](mx.nd.zeros((1, 4096)))
    made.trained[-1].weight.set_data(noise(3, 4096, seed=seed))
    made.trained[-1].bias.set_data(noise(3, seed=seed))
    return made


def save(made, cut="fc6", dim=4096):
    """As the stage does; returns what was saved about it."""
    about, weights, train = features_info(cut=cut, dim=dim), parameters.read_info(), params.load().train
    trained.save(made.values(), about, weights, train, chosen(), 20, 10)
    return about, weights, train


# --- What is saved ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["last", "all"])
@pytest.mark.parametrize(("cut", "dim"), [("fc6", 4096), ("conv", 98)])
def test_what_is_saved_is_loaded_without_the_weights(vgg, cut, dim, trainable):
    made = built(cut, trainable)
    about, weights, train = save(made, cut, dim)
    shutil.rmtree(WEIGHTS)
    loaded = trained.load()
    info = loaded.info
    assert (info.features, info.weights, info.train) == (about, weights, train)
    assert (info.train_images, info.valid_images) == (20, 10)
    features = noise(50, dim).asnumpy()
    expected = made.logits(features)
    assert expected.std() > 1
    np.testing.assert_allclose(loaded.logits(features), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loaded.logits(features, rows=7), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("cut", "shapes"),
    [("fc6", {"1": (4096, 4096), "3": (3, 4096)}), ("conv", {"0": (4096, 98), "2": (4096, 4096), "4": (3, 4096)})],
)
def test_every_layer_behind_the_cut_is_saved_frozen_or_not(vgg, cut, shapes):
    made = built(cut)
    save(made, cut)
    assert sorted(os.listdir(MODEL)) == ["head.json", "head.params", "head.sha256"]
    saved = mx.nd.load(str(MODEL / "head.params"))
    weights = {f"{place}.weight": shape for place, shape in shapes.items()}
    assert {name: value.shape for name, value in saved.items() if value.ndim == 2} == weights
    assert {name: value.shape for name, value in saved.items() if value.ndim == 1} == {
        f"{place}.bias": shape[:1] for place, shape in shapes.items()
    }
    for name, parameter in zoo.named_parameters(made.layers).items():
        assert saved[name].asnumpy().tobytes() == parameter.data().asnumpy().tobytes()


def test_saving_replaces_what_was_there(vgg):
    MODEL.mkdir(parents=True)
    (MODEL / "older").touch()
    save(built(seed=1))
    first = (MODEL / "head.params").read_bytes()
    save(built(seed=2))
    second = (MODEL / "head.params").read_bytes()
    save(built(seed=1))
    assert sorted(os.listdir(MODEL)) == ["head.json", "head.params", "head.sha256"]
    assert (MODEL / "head.params").read_bytes() == first != second


# --- What is refused -------------------------------------------------------------------------------------------------


def refused():
    with pytest.raises(InputError) as error:
        trained.load()
    return str(error.value)


def flip(path):
    """Changes a low bit of a number in the middle of the file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 // 4 * 4] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["head.json", "head.params"])
def test_without_one_of_its_files_nothing_is_trained(vgg, name):
    save(built())
    (MODEL / name).unlink()
    assert refused() == f"there is no trained classifier here (data/model/{name} is missing): run `dvc repro` first"


def test_damaged_parameters_are_refused(vgg):
    save(built())
    whole = (MODEL / "head.params").read_bytes()
    sentence = "data/model/head.params is damaged (its SHA-256 is not the one in head.json): run `dvc repro -f train`"
    flip(MODEL / "head.params")
    assert refused() == sentence
    for length in (0, 24, len(whole) // 2, len(whole) - 1):
        (MODEL / "head.params").write_bytes(whole[:length])
        assert refused() == sentence


def test_damaged_facts_are_refused(vgg):
    save(built())
    path = MODEL / "head.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("red panda", "red pandy"), encoding="utf-8")
    assert refused().startswith("data/model/head.json is damaged or of another run ")
    path.write_text(json.dumps({**json.loads(whole), "train_images": None}))
    sums.write([path])
    assert refused().startswith("data/model/head.json is of another version of headstart: ")


def test_facts_of_another_head_are_refused(vgg):
    save(built())
    path = MODEL / "head.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["features"]["classes"].append("fox")
    path.write_text(json.dumps(facts))
    sums.write([path])
    assert refused() == "data/model/head.params does not fit head.json: run `dvc repro -f train`"


def test_the_weights_must_be_those_it_was_trained_on(vgg, vgg_file):
    save(built())
    info = trained.load().info
    trained.check_weights(info)
    path = WEIGHTS / "weights.params"
    path.unlink()
    with pytest.raises(InputError, match=r"^there is no trained classifier here \(data/weights/weights.params is miss"):
        trained.check_weights(info)
    shutil.copy(vgg_file, path)
    trained.check_weights(info)
    flip(path)
    with pytest.raises(InputError, match="^data/weights is not what the classifier in data/model was trained on: "):
        trained.check_weights(info)


def test_features_must_be_of_the_kind_it_was_trained_on(vgg):
    about, _, _ = save(built())
    info = trained.load().info
    about.save(ABOUT)
    trained.check_features(info)
    about.model_copy(update={"fingerprint": "34"}).save(ABOUT)
    with pytest.raises(InputError, match="^data/features is not what the classifier in data/model was trained on: "):
        trained.check_features(info)
