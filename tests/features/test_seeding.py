"""The feature cache filled from records: as they are, with their dtype, and only what belongs there."""

import shutil

import numpy as np
import pytest

from stages import featurize
from stages.common.disk import sums
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import FEATURES, MANIFEST, SUBSETS
from stages.dataset import lists, manifest
from stages.features import identity, seeding
from stages.features.compute import cached
from stages.features.stored import records
from stages.features.stored.records import ABOUT, FeaturesInfo, Work
from tests.conftest import set_params

pytestmark = pytest.mark.xdist_group("trained")


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of the trained folder with an empty cache."""
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "copy"


def seed():
    return seeding.seed(params.load().runtime)


def passes():
    """How many images go through the network now."""
    featurize.main()
    return Work.load(records.WORK).forward_passes


def held(dtype):
    """{digest: feature} of all images, as far as the cache has them as precisely as ``dtype``."""
    cache = cached(FeaturesInfo.load(ABOUT).recipe, params.load().runtime)
    digests = [bytes.fromhex(digest) for digest in manifest.read(MANIFEST).digests]
    return {d: f for d, f in zip(digests, cache.get(digests, dtype)) if f is not None}


def test_what_is_taken_over_is_not_computed_and_gives_the_same_records(here):
    wanted = {path.name: path.read_bytes() for path in FEATURES.glob("*.rec")}
    assert seed() == (24, 24, 0)
    assert seed() == (24, 0, 0)
    for path in FEATURES.iterdir():
        path.unlink()
    assert passes() == 0
    assert {path.name: path.read_bytes() for path in FEATURES.glob("*.rec")} == wanted
    vectors = {}
    for subset in SUBSETS:
        by_path = {path: bytes.fromhex(d) for path, d in zip(*manifest.read(MANIFEST)[0:3:2])}
        vectors.update(zip((by_path[row.path] for row in lists.read(subset)), records.read(subset)[0]))
    found = held("float16")
    assert found.keys() == vectors.keys()
    assert all(np.array_equal(found[digest], vectors[digest]) for digest in vectors)


def test_float16_is_never_taken_for_float32(here):
    assert seed().new == 24
    assert held("float32") == {} and len(held("float16")) == 24
    set_params(here / "params.yaml", featurize={"dtype": "float32"})
    assert passes() == 24
    exact = held("float32")
    assert len(exact) == 24
    # Nor does it take the place of float32.
    set_params(here / "params.yaml", featurize={"dtype": "float16"})
    assert passes() == 0
    assert seed().new == 0
    assert all(np.array_equal(feature, exact[digest]) for digest, feature in held("float32").items())


def test_an_image_that_the_manifest_does_not_list_is_left_out(here):
    rows = list(map(manifest.Row, *manifest.read(MANIFEST)))
    manifest.write(MANIFEST, rows[1:])
    assert seed() == (24, 23, 1)


def test_digests_with_one_beginning_are_left_out():
    first, second, third = "11" * 8 + "22" * 24, "11" * 8 + "33" * 24, "44" * 32
    assert seeding._by_beginning([first, second, third, third]) == {b"\x44" * 8: b"\x44" * 32}


def test_features_of_other_versions_are_refused(here):
    about = FeaturesInfo.load(ABOUT)
    about.model_copy(update={"fingerprint": "0" * 64}).save(ABOUT)
    for subset in SUBSETS:
        sums.write([FEATURES / f"{subset}.rec", FEATURES / f"{subset}.idx", ABOUT])
    with pytest.raises(InputError, match="^data/features was made with other versions of headstart or its libraries"):
        seed()


def test_damaged_records_and_none_at_all_are_refused(here):
    data = bytearray((FEATURES / "valid.rec").read_bytes())
    data[100] ^= 1
    (FEATURES / "valid.rec").write_bytes(data)
    with pytest.raises(InputError, match=r"^data/features/valid\.rec is damaged or of another run"):
        seed()
    shutil.rmtree(FEATURES)
    with pytest.raises(InputError, match="^there is nothing in data/features to take over: `dvc pull` fetches what"):
        seed()


def test_with_the_cache_switched_off_there_is_nowhere_to_put_them(here, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    with pytest.raises(InputError, match="^the feature cache cannot be used"):
        seed()


def lock(here, content):
    """Has DVC keep ``content`` of features.json."""
    kept = here / ".dvc/cache/files/md5/ab/cdef"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(content)
    outs = "[{path: data/features/features.json, hash: md5, md5: abcdef}]"
    (here / "dvc.lock").write_text(f"schema: '2.0'\nstages: {{featurize: {{outs: {outs}}}}}\n")


def would_help(dtype="float16"):
    recipe = identity.current("auto", params.load().featurize, "auto")
    digests = [bytes.fromhex(digest) for digest in manifest.read(MANIFEST).digests]
    return seeding.would_help(recipe, dtype, digests, params.load().runtime)


def test_featurize_says_where_it_would_help(here, capsys):
    assert not would_help()
    lock(here, ABOUT.read_text())
    assert would_help() and not would_help("float32")
    featurize.main()
    assert "note: DVC has these features and your feature cache has not" in capsys.readouterr().err
    # Now the cache has them.
    assert not would_help()


def test_features_of_another_recipe_are_no_help(here):
    lock(here, FeaturesInfo.load(ABOUT).model_copy(update={"fingerprint": "0" * 64}).model_dump_json())
    assert not would_help()


@pytest.mark.parametrize("text", ["", "stages: 7", "[", "stages: {featurize: {outs: [{path: 1}]}}", "\0"])
def test_a_lock_file_that_is_not_dvcs_says_nothing(here, text):
    (here / "dvc.lock").write_text(text)
    assert not would_help()
