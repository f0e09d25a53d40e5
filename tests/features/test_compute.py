"""Images to features: no image goes through the network twice, and what is not as it should be is named."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bench.pictures import photo, save_folder
from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset.sources.files.decode import decode
from stages.dataset.sources.files.places import Place, read
from stages.features import compute as module
from stages.features import database, identity
from stages.features.compute import compute
from stages.features.extract import BLIND, Result, found_by
from stages.preprocessing import pixels
from tests.conftest import BACKBONE

FEATURIZE = params.Featurize(resize="crop", precision="float32", dtype="float16")
RUNTIME = params.Runtime(
    devices="cpu", workers=1, batch_size=4, cache="auto", cache_gb="auto", engine="local", ray_address="auto"
)
DIM = 256


@pytest.fixture(autouse=True)
def here(workspace, weights_file, tmp_path, monkeypatch):
    """A folder with a small backbone, and a feature cache of its own."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return workspace(BACKBONE, weights_file)


def recipe():
    return identity.current("auto", FEATURIZE, "off")


def allocate(*shape):
    return np.full(shape, np.nan, np.float32)


def files(paths):
    return [Place(str(path)) for path in paths]


def featurize(paths, on_bad=None, known=None, **settings):
    """Computes features float32 (n, dim) of the files at ``paths``."""
    runtime = RUNTIME.model_copy(update=settings)
    options = {"on_bad": on_bad} if on_bad else {}
    return compute(files(paths), recipe(), runtime, allocate, known=known, **options)


def digests(paths):
    return [read(place)[1] for place in files(paths)]


def fail_where_there_is_work(monkeypatch):
    def engine(work):
        for _ in work.chunks:
            pytest.fail("there is work")
        return iter(())

    monkeypatch.setitem(module.ENGINES, "local", lambda runtime: engine)


@pytest.fixture
def no_worker(monkeypatch):
    fail_where_there_is_work(monkeypatch)


# --- Features --------------------------------------------------------------------------------------------------------


def expected(paths):
    """The features of the images at ``paths`` by the network as it is, nothing compiled: float32 (n, dim)."""
    backbone = BACKBONES[BACKBONE]
    images = [pixels.pixels(decode(path.read_bytes(), path), backbone, "crop") for path in paths]
    batch = mx.nd.array(pixels.normalise(np.stack(images), backbone))
    return zoo.body(zoo.load(BACKBONE, sha256=recipe().weights), "pool")(batch).asnumpy()


def test_every_image_is_computed_once_and_never_again(tmp_path, monkeypatch):
    cats = save_folder(tmp_path / "photos", ["cat", "dög"], [4, 3])
    copies = [tmp_path / "photos/dög/a copy.jpg", tmp_path / "photos/dög/another copy.jpg"]
    for copy in copies:
        shutil.copy(cats[1], copy)
    # 7 images in 9 rows, the same one in three of them, one path twice; in batches of 4 and 3.
    paths = [cats[6], copies[0], cats[0], cats[1], cats[5], cats[2], copies[1], cats[3], cats[4], cats[0]]
    found = featurize(paths)

    assert (found.features.shape, found.features.dtype) == ((10, DIM), np.float32)
    np.testing.assert_allclose(found.features, expected(paths), rtol=1e-3, atol=1e-5 * np.abs(found.features).max())
    assert len({row.tobytes() for row in found.features}) == 7
    assert found.digests == digests(paths)
    assert found.forward_passes == 7
    assert len(found.workers) == 1
    seconds = vars(found.seconds)
    assert seconds.keys() == {"read", "cache", "decode", "forward"}
    assert all(value > 0 for value in seconds.values())

    # Under other names, in another order, with other settings: nothing to do.
    fail_where_there_is_work(monkeypatch)
    (tmp_path / "photos").rename(tmp_path / "pictures")
    renamed = [Path(str(path).replace("/photos/", "/pictures/")) for path in reversed(paths)]
    again = featurize(renamed, workers=3, batch_size=32)
    assert again.features.tobytes() == np.ascontiguousarray(found.features[::-1]).tobytes()
    assert (again.forward_passes, again.workers) == (0, frozenset())
    assert again.seconds.decode == again.seconds.forward == 0


def test_workers_and_machines_are_those_that_worked(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 12)
    found = featurize(paths[:10], workers=2, batch_size=1)
    assert len(found.workers) == 2
    assert len({worker.node for worker in found.workers}) == 1
    # No more than there is work for.
    assert len(featurize(paths, workers=2).workers) == 1


def nothing(device, threads, recipe, parameters, calibration, batch_size):
    """A worker without a network: a feature is the number of the image's bytes."""

    def start(chunk):
        with ThreadPoolExecutor(1) as pool:
            files = found_by(pool, chunk) if chunk.files is None else chunk.files
        if files is None:
            return lambda: BLIND
        features = np.array([[len(data)] * DIM for data in files], np.float32)
        return lambda: Result(features, {}, 0.0, 0.0)

    return start


def half_blind(device, *arguments, **options):
    """One of two workers sees nothing, and the other nothing any more when it has read one chunk."""
    seeing, left = nothing(device, *arguments, **options), [1] if device == "cpu(0)" else []

    def start(chunk):
        if chunk.files is None:
            return seeing(chunk) if left and left.pop() else lambda: BLIND
        return seeing(chunk)

    return start


def test_what_a_worker_does_is_an_argument(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    found = compute(files(paths), recipe(), RUNTIME, allocate, setup=nothing)
    assert found.features[:, 0].tolist() == [os.path.getsize(path) for path in paths]


def test_a_feature_that_the_array_cannot_hold_is_named(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    paths[1].write_bytes(bytes(70_000))
    with pytest.raises(InputError, match=f"^{paths[1]} has a feature beyond float16: set featurize.dtype to float32$"):
        compute(files(paths), recipe(), RUNTIME, lambda *shape: np.empty(shape, np.float16), setup=nothing)


def test_a_cached_feature_of_another_length_is_computed_again(tmp_path, capsys):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    expected = featurize(paths).features
    keys = [identity.fingerprint(recipe()) + digest for digest in digests(paths)]
    store = database.Database(tmp_path / "cache")
    store.write([(keys[0], database.seal(keys[0], bytes(4)))])
    store.close()
    again = featurize(paths)
    assert (again.features.tobytes(), again.forward_passes) == (expected.tobytes(), 1)
    assert "has damaged entries" in capsys.readouterr().err


# --- Who reads -------------------------------------------------------------------------------------------------------


def test_workers_read_for_themselves(tmp_path, monkeypatch):
    paths = save_folder(tmp_path / "photos", ["cat"], 5)
    monkeypatch.chdir(tmp_path)
    found = compute(files(path.relative_to(tmp_path) for path in paths), recipe(), RUNTIME, allocate, setup=nothing)
    assert found.features[:, 0].tolist() == [os.path.getsize(path) for path in paths]
    assert found.shipped == 0


def test_the_driver_reads_for_workers_that_cannot(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 24)
    runtime = RUNTIME.model_copy(update={"workers": 2, "batch_size": 2})
    found = compute(files(paths), recipe(), runtime, allocate, setup=half_blind)
    assert found.features[:, 0].tolist() == [os.path.getsize(path) for path in paths]
    assert found.shipped == 22 and found.forward_passes == 24


# --- Images whose digests are known ----------------------------------------------------------------------------------


def test_only_files_whose_feature_is_missing_are_opened(tmp_path, monkeypatch):
    paths = save_folder(tmp_path / "photos", ["cat"], 5)
    known = digests(paths)
    expected = featurize(paths, known=known)
    assert (expected.digests, expected.seconds.read) == (known, 0)
    photo(78).save(paths[3])
    known[3] = digests([paths[3]])[0]
    for path in [*paths[:3], paths[4]]:
        path.unlink()
    found = featurize(paths, known=known)
    assert (found.forward_passes, found.digests) == (1, known)
    others = [0, 1, 2, 4]
    assert found.features[others].tobytes() == expected.features[others].tobytes()
    paths[3].unlink()
    fail_where_there_is_work(monkeypatch)
    assert featurize(paths, known=known).features.tobytes() == found.features.tobytes()


def test_pieces_of_an_archive_are_computed_as_files_are(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    archive, places, offset = tmp_path / "all.tar", [], 5
    with open(archive, "wb") as file:
        file.write(bytes(offset))
        for path in paths:
            places.append(Place(str(archive), offset, file.write(path.read_bytes()), path.name))
            offset += places[-1].size
    found = compute(places, recipe(), RUNTIME, allocate, known=digests(paths))
    np.testing.assert_allclose(found.features, expected(paths), rtol=1e-3, atol=1e-5 * np.abs(found.features).max())
    assert found.forward_passes == 3


def test_other_bytes_than_those_known_are_refused(tmp_path):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    known = digests(paths)
    photo(77).save(paths[1])
    with pytest.raises(InputError) as error:
        compute(files(paths), recipe(), RUNTIME, allocate, setup=nothing, known=known)
    assert str(error.value) == f"{paths[1]} was changed since it was looked at: run the same command again"


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
    assert refused([tmp_path]).startswith(f"{tmp_path} is a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_rights_is_named(tmp_path, no_worker):
    paths = save_folder(tmp_path / "photos", ["cat"], 2)
    paths[0].chmod(0)
    assert refused(paths).startswith(f"{paths[0]} cannot be read (Permission denied)")


@pytest.mark.parametrize("change", ["changed", "removed"])
def test_a_file_that_changes_between_hashing_and_computing_is_named(tmp_path, monkeypatch, change):
    paths = save_folder(tmp_path / "photos", ["cat"], 3)
    bar = module.progress

    def progress(iterable=None, **options):
        return bar(**options) if iterable is None else read_all(iterable)

    def read_all(iterable):
        yield from iterable
        paths[1].unlink()
        if change == "changed":
            photo(77).save(paths[1])

    monkeypatch.setattr(module, "progress", progress)
    reasons = {
        "changed": "was changed since it was looked at: run the same command again",
        "removed": "cannot be read (No such file or directory): `dvc repro` takes up what has changed",
    }
    with pytest.raises(InputError) as error:
        compute(files(paths), recipe(), RUNTIME, allocate, setup=nothing)
    assert str(error.value) == f"{paths[1]} {reasons[change]}"


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
    found = featurize(paths, complaints.__setitem__, batch_size=2)
    good = [2, 3, 5]
    assert [row for row, digest in enumerate(found.digests) if digest] == good
    np.testing.assert_allclose(found.features[good], expected([paths[row] for row in good]), rtol=1e-3, atol=1e-2)
    assert np.isnan(found.features[[0, 1, 4]]).all()
    assert {path: str(error) for path, error in complaints.items()} == {
        str(paths[0]): f"{paths[0]} cannot be read (No such file or directory)",
        str(paths[1]): f"{paths[1]} is not an image of a kind that can be read",
        str(paths[4]): f"{paths[4]} is a copy: {paths[1]} is not an image of a kind that can be read",
    }


def test_where_every_file_is_bad_nothing_is_filled_in(tmp_path):
    (tmp_path / "a.jpg").touch()
    found = featurize([tmp_path / "a.jpg"], lambda *bad: None)
    assert found.digests == [None]
    assert np.isnan(found.features).all()
