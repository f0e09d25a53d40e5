"""The stage as a whole: what it writes down of the features and of its work."""

import json

import pytest

from stages import featurize
from stages.common import params
from stages.common.errors import InputError
from stages.common.layout import MANIFEST
from stages.dataset import manifest
from stages.dataset.places import Place
from stages.features import identity, records
from stages.features.records import FeaturesInfo
from tests.conftest import BACKBONE



def test_what_it_writes_down(trained, monkeypatch):
    monkeypatch.chdir(trained)
    info = FeaturesInfo.load(records.ABOUT)
    assert list(json.loads(records.ABOUT.read_text())) == [
        "backbone", "cut", "resize", "precision", "weights", "calibration", "dim", "dtype", "fingerprint", "classes"
    ]  # fmt: skip
    assert info.recipe[:4] == (BACKBONE, "pool", "crop", "float32")
    assert info.fingerprint == identity.fingerprint(info.recipe).hex()
    assert (info.dim, info.dtype, info.classes) == (256, "float16", ["cat", "dög", "red panda"])

    metrics = json.loads((trained / "metrics/timing/featurize.json").read_text())
    assert list(metrics) == ["featurize_seconds", "images_per_second", "forward_passes", "reused"]
    assert metrics | {"forward_passes": 24, "reused": 0} == metrics
    work = json.loads(records.WORK.read_text())
    seconds = ["seconds_read", "seconds_cache", "seconds_decode", "seconds_forward"]
    assert list(work) == ["workers", "nodes", *seconds]
    assert work | {"workers": 1, "nodes": 1} == work
    assert all(round(value, 2) == value for value in (*metrics.values(), *work.values()))
    assert metrics["featurize_seconds"] > work["seconds_forward"] > 0 and work["seconds_decode"] > 0


def test_images_are_where_the_data_set_is_and_their_digests_are_the_manifests(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    digests = [f"{number:064x}" for number in range(3)]
    rows = [("all.tar/cat/1.jpg", 20, 512), ("all.tar/cat/sub.tar/2.jpg", 7, 1536), ("cat/a b.jpg", 9, None)]
    manifest.write(MANIFEST, (manifest.Row(p, "cat", d, s, o) for (p, s, o), d in zip(rows, digests)))
    chosen = params.load().dataset.model_copy(update={"name": "folder", "path": "/photos"})
    places, found = featurize.located([rows[2][0], rows[0][0], rows[1][0], rows[0][0]], chosen)
    assert places == [
        Place("/photos/cat/a b.jpg"),
        first := Place("/photos/all.tar", 512, 20, "cat/1.jpg"),
        Place("/photos/all.tar", 1536, 7, "cat/sub.tar/2.jpg"),
        first,
    ]
    assert found == [bytes.fromhex(digests[number]) for number in (2, 0, 1, 0)]
    with pytest.raises(InputError) as refused:
        featurize.located(["cat/a b.jpg", "cat/c.jpg"], chosen)
    assert str(refused.value) == "data/manifest.tsv has no cat/c.jpg, which data/split lists: run `dvc repro`"


def test_without_whole_weights_it_does_nothing(workspace, weights_file, monkeypatch):
    folder = workspace(BACKBONE, weights_file)
    path = folder / "data/weights/weights.params"
    path.unlink()
    path.write_bytes(weights_file.read_bytes()[:-1])
    monkeypatch.setattr(featurize, "compute", lambda *_: pytest.fail("it goes to work"))
    with pytest.raises(InputError, match="^data/weights/weights.params is damaged or was replaced"):
        featurize.main()
    assert not (folder / "data/features").exists()
