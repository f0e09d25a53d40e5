"""The stage as a whole: what it writes down of the features and of its work."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from bench.project import ROOT
from stages import featurize
from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backend import cpu
from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import MANIFEST, SUBSETS
from stages.dataset import lists, manifest
from stages.dataset.sources.files.decode import decode
from stages.dataset.sources.files.places import Place
from stages.features import identity
from stages.features.stored import records
from stages.features.stored.records import FeaturesInfo
from stages.preprocessing import pixels
from tests.conftest import BACKBONE


def test_what_it_writes_down(trained, monkeypatch):
    monkeypatch.chdir(trained)
    info = FeaturesInfo.load(records.ABOUT)
    assert list(json.loads(records.ABOUT.read_text())) == [
        "backbone", "cut", "resize", "precision", "weights", "calibration", "dim", "dtype", "fingerprint", "cpu",
        "classes",
    ]  # fmt: skip
    assert info.recipe[:4] == (BACKBONE, "pool", "crop", "float32")
    assert info.fingerprint == identity.fingerprint(info.recipe).hex()
    assert info.cpu == cpu.best()
    assert (info.dim, info.dtype, info.classes) == (256, "float16", ["cat", "dög", "red panda"])

    work = json.loads(records.WORK.read_text())
    seconds = ["seconds_read", "seconds_cache", "seconds_decode", "seconds_forward"]
    assert list(work) == ["forward_passes", "reused", "seconds", "workers", "nodes", "shipped", *seconds]
    assert work | {"forward_passes": 24, "reused": 0, "workers": 1, "nodes": 1, "shipped": 0} == work
    assert all(round(value, 2) == value for value in work.values())
    assert work["seconds"] > work["seconds_forward"] > 0 and work["seconds_decode"] > 0


def test_every_record_is_of_the_image_that_its_list_names(trained, monkeypatch):
    monkeypatch.chdir(trained)
    info, backbone = FeaturesInfo.load(records.ABOUT), BACKBONES[BACKBONE]
    body = zoo.body(zoo.load(BACKBONE, sha256=info.weights), "pool")
    seen = set()
    for subset in SUBSETS:
        file = mx.recordio.MXRecordIO(str(records.ABOUT.with_name(f"{subset}.rec")), "r")
        for row in lists.read(subset):
            header, feature = mx.recordio.unpack(file.read())
            data = (trained / "photos" / row.path).read_bytes()
            assert (header.id, info.classes[int(header.label)]) == (row.index, row.path.split("/")[0])
            assert header.id2 == int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
            picture = pixels.pixels(decode(data, row.path), backbone, "crop")
            wanted = body(mx.nd.array(pixels.normalise(picture[None], backbone))).asnumpy()[0]
            np.testing.assert_allclose(np.frombuffer(feature, "<f2"), wanted, rtol=2e-3, atol=1e-3 * wanted.max())
            seen.add(feature)
        assert file.read() is None
    assert len(seen) == 24


# Both take longer to load than all else that these stages have to do.
WITHOUT = """
import sys
sys.modules["{library}"] = None
from stages import {first}, {second}
{first}.main()
{second}.main()
"""


@pytest.mark.parametrize(
    ("library", "first", "second", "said"),
    [
        ("mxnet", "featurize", "evaluate", f"24 images, 0 through {BACKBONE}, 24 reused\n"),
        ("numpy", "images", "split", "folder: 24 images of"),
    ],
)
def test_where_nothing_is_missing_large_libraries_are_not_needed(trained, tmp_path, library, first, second, said):
    shutil.copytree(trained, tmp_path / "copy")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT.format(library=library, first=first, second=second)]
    done = subprocess.run(command, cwd=tmp_path / "copy", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(said)


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
