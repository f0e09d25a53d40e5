"""The int8 calibration of a backbone: measured in a process of its own, kept in the user's cache, and checked."""

import json
import os

import pytest

from bench.pictures import save_folder
from stages.backbones import catalogue, zoo
from stages.backend import cpu
from stages.common.disk.files import sha256
from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset.sources.files.places import Place
from stages.features import calibrations, compute, identity
from stages.features.stored.recipe import Recipe
from stages.inference import calibrate, compile
from stages.inference.calibrate import Calibration
from tests.conftest import BACKBONE

SOME = Calibration({"out": (-0.1, 3.75)}, {"bias": [0.5, -0.25]})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


@pytest.fixture
def measured(monkeypatch):
    """A list of what has been measured; nothing really is."""
    found = []
    monkeypatch.setattr(calibrations, "_measured", lambda *asked: found.append(asked) or SOME)
    return found


def recipe(**parts):
    return Recipe(BACKBONE, "pool", "crop", "int8", "00ff", "")._replace(**parts)


def kept(cache):
    return sorted((cache / "calibrations").iterdir())


def test_it_is_measured_once(cache, measured):
    assert calibrations.calibration(recipe(), "auto") == SOME
    assert calibrations.calibration(recipe(), "auto") == SOME
    assert measured == [(BACKBONE, "pool", "00ff")]
    assert len(kept(cache)) == 1


@pytest.mark.parametrize("parts", [{"resize": "squash"}, {"calibration": "other"}])
def test_what_it_does_not_depend_on_measures_nothing_anew(cache, measured, parts):
    calibrations.calibration(recipe(), "auto")
    calibrations.calibration(recipe(**parts), "auto")
    assert len(measured) == len(kept(cache)) == 1


@pytest.mark.parametrize("parts", [{"weights": "11ff"}, {"backbone": "mobilenet0.5"}, {"cut": "conv"}])
def test_another_body_has_one_of_its_own(cache, measured, parts):
    calibrations.calibration(recipe(), "auto")
    calibrations.calibration(recipe(**parts), "auto")
    assert len(measured) == len(kept(cache)) == 2


@pytest.mark.parametrize("module", [compile, calibrate])
def test_another_way_to_measure_measures_anew(cache, measured, monkeypatch, module):
    calibrations.calibration(recipe(), "auto")
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    calibrations.calibration(recipe(), "auto")
    assert len(measured) == 2


@pytest.mark.parametrize("damage", ["cut", "a bit", "{}", "[1, 2]", '{"sha256": 1}', "nonsense", "binary"])
def test_a_damaged_one_is_measured_anew(cache, measured, damage):
    calibrations.calibration(recipe(), "auto")
    [path] = kept(cache)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-20])
    elif damage == "a bit":
        path.write_bytes(whole.replace(b"3.75", b"3.74"))
    elif damage == "nonsense":
        text = json.dumps({"ranges": {"out": "wide"}, "corrections": {}})
        path.write_text(json.dumps({"sha256": calibrations._sha256(text), "calibration": text}))
    else:
        path.write_bytes(os.urandom(100) if damage == "binary" else damage.encode())
    assert calibrations.calibration(recipe(), "auto") == SOME
    assert len(measured) == 2
    assert path.read_bytes() == whole


def test_without_a_cache_nothing_is_kept(cache, measured, monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    calibrations.calibration(recipe(), "auto")
    calibrations.calibration(recipe(), "auto")
    assert len(measured) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_done_without(measured, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "/dev/null/cache")
    assert calibrations.calibration(recipe(), "auto") == SOME


def test_all_that_are_kept_can_be_removed(cache, measured):
    calibrations.remove(cache)
    calibrations.calibration(recipe(), "auto")
    calibrations.remove(cache)
    assert kept(cache) == []


# --- With a real backbone --------------------------------------------------------------------------------------------


@pytest.fixture
def here(workspace, weights_file, cache):
    return workspace(BACKBONE, weights_file)


def test_it_is_that_of_the_body_and_measured_in_another_process(here, weights_file, monkeypatch):
    digest = sha256(weights_file)
    body = zoo.body(zoo.load(BACKBONE, sha256=digest), "pool")
    expected = calibrate.measure(body, catalogue.find(BACKBONE))
    monkeypatch.setattr(calibrate, "measure", lambda *_: pytest.fail("was measured in the driver"))
    monkeypatch.setattr(calibrations, "measure", calibrate.measure)
    found = calibrations.calibration(recipe(weights=digest), "auto")
    assert found == expected
    assert found.to_json() == expected.to_json()


def test_other_weights_than_asked_for_are_refused(here):
    calibrations._measured.cache_clear()
    with pytest.raises(InputError, match="weights.params is damaged or was replaced"):
        calibrations.calibration(recipe(), "auto")


def test_features_are_not_computed_with_another_calibration_than_asked_for(
    here, cache, tmp_path, measured, monkeypatch
):
    import numpy as np

    monkeypatch.setattr(cpu, "adds_in_32_bits", lambda *_: True)

    given = params.load()
    featurize = given.featurize.model_copy(update={"precision": "int8"})
    runtime = given.runtime.model_copy(update={"devices": "cpu", "workers": 1})
    places = [Place(str(path)) for path in save_folder(tmp_path / "photos", ["cat"], 2)]
    found = identity.current("auto", featurize, "auto")
    assert found.calibration == calibrations.digest(SOME)
    with pytest.raises(InputError, match="calibration for int8 is not the one that was asked for"):
        compute.compute(places, found._replace(calibration="00"), runtime, lambda *shape: np.empty(shape))
