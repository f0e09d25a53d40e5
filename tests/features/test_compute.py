"""Images to features: what a feature depends on, and that no image goes through the network twice."""

import dataclasses
import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.features
import pytest

from bench.pictures import encoded, photo, save_folder
from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backbones.parameters import read_info
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.dataset.decode import decode
from stages.engines import local as workers
from stages.features import compute as features
from stages.inference import compile as inference
from stages.inference import environment as variables
from stages.inference import pixels
from tests.conftest import BACKBONE

FEATURIZE = SimpleNamespace(resize="crop", precision="float32", dtype="float16")
DIM = 256


@pytest.fixture(autouse=True)
def here(workspace, weights_file, tmp_path, monkeypatch):
    """A folder with a small backbone, and a feature cache of its own."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return workspace(BACKBONE, weights_file)


def recipe(cut="auto", **settings):
    return features.recipe(cut, SimpleNamespace(**{**vars(FEATURIZE), **settings}))


def runtime(**settings):
    return SimpleNamespace(
        **{
            "devices": "cpu",
            "workers": 1,
            "batch_size": 4,
            "cache": "auto",
            "cache_gb": "auto",
            "engine": "local",
            **settings,
        }
    )


def featurize(paths, **settings):
    """Returns the features float32 (n, dim), the digests and the metrics."""

    def allocate(*shape):
        return np.full(shape, np.nan, np.float32)

    return features.featurize([str(path) for path in paths], recipe(), runtime(**settings), allocate)


def fail_where_a_worker_starts(monkeypatch):
    monkeypatch.setattr(workers._Worker, "_start", lambda worker: pytest.fail("a worker was started"))


@pytest.fixture
def no_worker(monkeypatch):
    fail_where_a_worker_starts(monkeypatch)


# --- The fingerprint -------------------------------------------------------------------------------------------------


def test_a_recipe_names_what_is_in_data_weights(here):
    found = recipe()
    assert (found.backbone, found.cut, found.resize, found.precision) == (BACKBONE, "pool", "crop", "float32")
    assert found == recipe() == recipe(cut="pool")
    path = here / "data/weights/weights.params"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert recipe().weights != found.weights


def test_the_same_recipe_has_the_same_fingerprint():
    assert features.fingerprint(recipe()) == features.fingerprint(recipe())
    assert len(features.fingerprint(recipe())) == 32


def test_how_features_are_stored_does_not_change_it():
    assert features.fingerprint(recipe(dtype="float32")) == features.fingerprint(recipe(dtype="float16"))


@pytest.mark.parametrize("part", features.Recipe._fields)
def test_every_part_of_the_recipe_changes_the_fingerprint(part):
    other = {"backbone": "mobilenet0.5"}.get(part, "other")
    assert features.fingerprint(recipe()._replace(**{part: other})) != features.fingerprint(recipe())


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("size", 192),
        ("crop", 0.9),
        ("mean", (0.485, 0.456, 0.407)),
        ("std", (0.229, 0.224, 0.226)),
        ("interpolation", "bicubic"),
    ],
)
def test_the_preprocessing_changes_the_fingerprint(monkeypatch, part, value):
    before = features.fingerprint(recipe())
    monkeypatch.setitem(BACKBONES, BACKBONE, dataclasses.replace(BACKBONES[BACKBONE], **{part: value}))
    assert features.fingerprint(recipe()) != before


@pytest.mark.parametrize("module", [pixels, inference])
def test_our_own_versions_change_the_fingerprint(monkeypatch, module):
    before = features.fingerprint(recipe())
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert features.fingerprint(recipe()) != before


def test_the_format_changes_the_fingerprint(monkeypatch):
    before = features.fingerprint(recipe())
    monkeypatch.setattr(features, "FORMAT", features.FORMAT + 1)
    assert features.fingerprint(recipe()) != before


@pytest.mark.parametrize("library", ["mxnet", "pil", "jpg", "zlib", "webp"])
def test_library_versions_change_the_fingerprint(monkeypatch, library):
    before = features.fingerprint(recipe())
    version = PIL.features.version
    if library == "mxnet":
        monkeypatch.setattr(mx, "__version__", "1.9.2")
    else:
        monkeypatch.setattr(PIL.features, "version", lambda name: "0.0" if name == library else version(name))
    assert features.fingerprint(recipe()) != before


# --- Features --------------------------------------------------------------------------------------------------------


def expected(paths):
    """The features of the images at ``paths`` by the network as it is, nothing compiled: float32 (n, dim)."""
    backbone = BACKBONES[BACKBONE]
    images = [pixels.pixels(decode(path.read_bytes(), path), backbone, "crop") for path in paths]
    batch = mx.nd.array(pixels.normalise(np.stack(images), backbone))
    return zoo.body(zoo.load(BACKBONE, sha256=read_info().sha256), "pool")(batch).asnumpy()


def test_every_image_is_computed_once_and_never_again(tmp_path, monkeypatch):
    cats = save_folder(tmp_path / "photos", ["cat", "dög"], [4, 3])
    copies = [tmp_path / "photos/dög/a copy.jpg", tmp_path / "photos/dög/another copy.jpg"]
    for copy in copies:
        shutil.copy(cats[1], copy)
    # 7 images in 9 rows, the same one in three of them, one path twice; in batches of 4 and 3.
    paths = [cats[6], copies[0], cats[0], cats[1], cats[5], cats[2], copies[1], cats[3], cats[4], cats[0]]
    array, digests, metrics = featurize(paths)

    assert (array.shape, array.dtype) == ((10, DIM), np.float32)
    np.testing.assert_allclose(array, expected(paths), rtol=1e-3, atol=1e-5 * np.abs(array).max())
    assert len({row.tobytes() for row in array}) == 7
    assert digests == [features.read(path)[1] for path in paths]
    assert {name: metrics[name] for name in ("images", "forward_passes", "reused")} == {
        "images": 10,
        "forward_passes": 7,
        "reused": 3,
    }
    seconds = {name: value for name, value in metrics.items() if name.startswith("seconds_")}
    assert set(seconds) == {"seconds_read", "seconds_cache", "seconds_decode", "seconds_forward"}
    assert all(value > 0 for value in seconds.values())
    assert metrics.keys() == {"images", "forward_passes", "reused", "workers", "nodes", *seconds}

    # Under other names, in another order, with other settings: no worker starts.
    fail_where_a_worker_starts(monkeypatch)
    (tmp_path / "photos").rename(tmp_path / "pictures")
    renamed = [Path(str(path).replace("/photos/", "/pictures/")) for path in reversed(paths)]
    again, _, metrics = featurize(renamed, workers=3, batch_size=32)
    assert again.tobytes() == np.ascontiguousarray(array[::-1]).tobytes()
    assert (metrics["images"], metrics["forward_passes"], metrics["reused"]) == (10, 0, 10)
    assert metrics["seconds_decode"] == metrics["seconds_forward"] == 0


def test_neighbours_and_the_filling_of_a_batch_do_not_change_a_bit():
    images = [encoded(photo(seed, (80, 60)), "JPEG") for seed in range(6)]

    def chunk(numbers):
        return features.Chunk([f"{n}.jpg" for n in numbers], [b""] * len(numbers), [images[n] for n in numbers])

    # Computed as batches of 1, 2, 4 and 6.
    chunks = [chunk(n) for n in ([0], [1], [2], [3], [4], [5], [1, 0], [2, 5, 4], [3, 2, 1, 0], range(5), range(6))]
    setup = partial(features._load, recipe=recipe(), batch_size=6)
    environment = variables.environment(BACKBONES[BACKBONE], "float32")
    alone = {}
    for done, (computed, *_) in workers.run(setup, ["cpu(0)"], chunks, environment):
        assert computed.shape == (len(done.paths), DIM)
        for path, feature in zip(done.paths, computed):
            assert feature.tobytes() == alone.setdefault(path, feature.tobytes())
    assert len(set(alone.values())) == 6


# --- Files that are not as they should be ----------------------------------------------------------------------------


def refused(paths):
    with pytest.raises(InputError) as error:
        featurize(paths)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_file_is_named(tmp_path, no_worker):
    paths = save_folder(tmp_path / "photos", ["cat"], 2)
    paths[1].unlink()
    assert refused(paths) == (
        f"{paths[1]} cannot be read (No such file or directory): `dvc repro` takes up what has changed"
    )


def test_a_folder_in_its_place_is_named(tmp_path, no_worker):
    assert refused([tmp_path]).startswith(f"{tmp_path} cannot be read (Is a directory)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_rights_is_named(tmp_path, no_worker):
    paths = save_folder(tmp_path / "photos", ["cat"], 2)
    paths[0].chmod(0)
    assert refused(paths).startswith(f"{paths[0]} cannot be read (Permission denied)")


@pytest.mark.parametrize("change", ["changed", "removed"])
def test_a_file_that_changes_between_hashing_and_computing_is_named(tmp_path, monkeypatch, no_worker, change):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    bar = features.progress

    def progress(iterable=None, **options):
        return bar(**options) if iterable is None else read_all(iterable)

    def read_all(iterable):
        yield from iterable
        paths[1].unlink()
        if change == "changed":
            photo(77).save(paths[1])

    monkeypatch.setattr(features, "progress", progress)
    reasons = {
        "changed": "was changed while it was being featurized: run the same command again",
        "removed": "cannot be read (No such file or directory)",
    }
    assert refused(paths) == f"{paths[1]} {reasons[change]}"


def test_what_a_worker_cannot_decode_is_named(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    paths[1].write_text("no image at all")
    assert refused(paths) == (
        f"{paths[1]} is not an image of a kind that can be read: `dvc repro` takes up what has changed"
    )


def test_bad_files_can_be_passed_over(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 6)
    paths[0].unlink()
    for path in (paths[1], paths[4]):
        path.write_text("no image at all")
    complaints = {}
    array, digests, _ = features.featurize(
        paths, recipe(), runtime(batch_size=2), lambda *shape: np.empty(shape), complaints.__setitem__
    )
    good = [2, 3, 5]
    assert [row for row, digest in enumerate(digests) if digest] == good
    np.testing.assert_allclose(array[good], expected([paths[row] for row in good]), rtol=1e-3, atol=1e-4)
    assert {path: str(error) for path, error in complaints.items()} == {
        paths[0]: f"{paths[0]} cannot be read (No such file or directory)",
        paths[1]: f"{paths[1]} is not an image of a kind that can be read",
        paths[4]: f"{paths[4]} is a copy: {paths[1]} is not an image of a kind that can be read",
    }


def test_where_every_file_is_bad_there_is_no_array(tmp_path):
    (tmp_path / "a.jpg").touch()
    array, digests, _ = features.featurize([tmp_path / "a.jpg"], recipe(), runtime(), np.empty, lambda *bad: None)
    assert (array, digests) == (None, [None])
