"""The recipe in use and its fingerprint: what a feature depends on, and what it does not."""

import dataclasses

import PIL.features
import pytest

from stages.backbones.catalogue import BACKBONES
from stages.common.disk.files import sha256
from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset.sources.files import decode
from stages.features import calibrations, identity
from stages.features.stored.recipe import Recipe
from stages.inference import compile
from stages.inference.calibrate import Calibration
from stages.preprocessing import pixels
from tests.conftest import BACKBONE

FEATURIZE = params.Featurize(resize="crop", precision="float32", dtype="float16")


@pytest.fixture(autouse=True)
def here(workspace, weights_file):
    """A folder with a small backbone."""
    return workspace(BACKBONE, weights_file)


def recipe(cut="auto", **settings):
    return identity.current(cut, FEATURIZE.model_copy(update=settings), "off")


def test_a_recipe_names_what_is_in_data_weights(weights_file):
    assert recipe() == recipe("pool") == Recipe(BACKBONE, "pool", "crop", "float32", sha256(weights_file), "")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0"), "weights.params is damaged or was replaced"),
        (lambda path: path.unlink(), "weights.params is missing"),
        (lambda path: path.with_name("weights.json").unlink(), "weights.json is missing"),
        (lambda path: path.with_name("weights.json").write_text("{"), "weights.json is damaged"),
    ],
)
def test_weights_that_are_not_whole_are_refused(here, damage, what):
    path = here / "data/weights/weights.params"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"\1")
    damage(path)
    with pytest.raises(InputError, match=f"^data/weights/{what}.*dvc repro") as error:
        recipe()
    assert "\n" not in str(error.value)


def test_a_cut_that_the_backbone_does_not_have_is_refused():
    with pytest.raises(InputError, match=f"cut of {BACKBONE} must be auto or pool"):
        recipe("fc6")


def test_int8_alone_has_a_calibration(monkeypatch):
    found = Calibration({"a": (0.0, 1.0)}, {})
    monkeypatch.setattr(calibrations, "calibration", lambda recipe, cache: found)
    assert recipe(precision="int8").calibration == calibrations.digest(found)
    monkeypatch.setattr(calibrations, "calibration", lambda recipe, cache: pytest.fail("was asked for"))
    assert recipe(precision="bfloat16").calibration == ""


def test_the_same_recipe_has_the_same_fingerprint():
    assert identity.fingerprint(recipe()) == identity.fingerprint(recipe())
    assert len(identity.fingerprint(recipe())) == 32


def test_how_features_are_stored_does_not_change_it():
    assert identity.fingerprint(recipe(dtype="float32")) == identity.fingerprint(recipe(dtype="float16"))


@pytest.mark.parametrize("part", Recipe._fields)
def test_every_part_of_the_recipe_changes_the_fingerprint(part):
    other = {"backbone": "mobilenet0.5"}.get(part, "other")
    assert identity.fingerprint(recipe()._replace(**{part: other})) != identity.fingerprint(recipe())


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("size", 192),
        ("crop", 0.9),
        ("resized", 256),
        ("mean", (0.485, 0.456, 0.407)),
        ("std", (0.229, 0.224, 0.226)),
        ("interpolation", "bicubic"),
        ("depthwise", False),
    ],
)
def test_the_preprocessing_changes_the_fingerprint(monkeypatch, part, value):
    before = identity.fingerprint(recipe())
    monkeypatch.setitem(BACKBONES, BACKBONE, dataclasses.replace(BACKBONES[BACKBONE], **{part: value}))
    assert identity.fingerprint(recipe()) != before


def test_where_else_a_backbone_can_be_cut_does_not_change_it(monkeypatch):
    before = identity.fingerprint(recipe())
    monkeypatch.setitem(BACKBONES, BACKBONE, dataclasses.replace(BACKBONES[BACKBONE], cuts=("pool", "conv")))
    assert identity.fingerprint(recipe()) == before


@pytest.mark.parametrize("module", [decode, pixels, compile])
def test_our_own_versions_change_the_fingerprint(monkeypatch, module):
    before = identity.fingerprint(recipe())
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert identity.fingerprint(recipe()) != before


def test_the_format_changes_the_fingerprint(monkeypatch):
    before = identity.fingerprint(recipe())
    monkeypatch.setattr(identity, "FORMAT", identity.FORMAT + 1)
    assert identity.fingerprint(recipe()) != before


@pytest.mark.parametrize("library", ["mxnet", "pil", "jpg", "zlib", "webp"])
def test_library_versions_change_the_fingerprint(monkeypatch, library):
    before = identity.fingerprint(recipe())
    version = PIL.features.version
    if library == "mxnet":
        monkeypatch.setattr(identity, "mxnet_version", lambda: "1.9.2")
    else:
        monkeypatch.setattr(PIL.features, "version", lambda name: "0.0" if name == library else version(name))
    assert identity.fingerprint(recipe()) != before
