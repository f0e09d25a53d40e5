"""The same images as a folder, a list, archives, here and in a store: one result, computed once."""

import json
import re
from pathlib import Path

import pytest

from bench.project import set_params
from stages import audit, evaluate, featurize, images, shards, split, train
from stages.common.errors import InputError
from stages.common.settings.layout import CLASSES, FEATURES, MANIFEST, METRICS, SUBSETS
from stages.dataset import lists, manifest
from stages.dataset.sources.files import stores
from tests.conftest import BACKBONE
from tests.dataset.stores import BUCKET, served


@pytest.fixture(scope="module")
def server():
    with served() as (store, environment):
        yield store, environment


def laid_out(small_data, folder, store):
    """{kind: (dataset.name, dataset.path)} of the images in ``small_data``."""
    files = {path.relative_to(small_data).as_posix(): path.read_bytes() for path in small_data.rglob("*.*")}
    table = "path,class\n" + "".join(f"{path},{path.split('/')[0]}\n" for path in files)
    shards.main([str(small_data), str(folder / "shards"), "--size", "20KB"])
    (folder / "list.csv").write_text(table.replace("\n", f"\n{small_data}/").rpartition("\n")[0] + "\n")
    packed = {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}
    assert len(packed) > 2
    store.put({f"folder/{path}": data for path, data in files.items()})
    store.put({"folder/list.csv": table.encode(), **{f"shards/{name}": data for name, data in packed.items()}})
    return {
        "folder": ("folder", str(small_data)),
        "list": ("list", str(folder / "list.csv")),
        "shards": ("shards", str(folder / "shards")),
        "folder in a store": ("folder", f"s3://{BUCKET}/folder"),
        "list in a store": ("list", f"s3://{BUCKET}/folder/list.csv"),
        "shards in a store": ("shards", f"s3://{BUCKET}/shards"),
    }


@pytest.fixture
def kinds(workspace, weights_file, small_data, server, tmp_path, monkeypatch):
    store, environment = server
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stores, "BACKOFF", 0.001)
    store.reset()
    workspace(BACKBONE, weights_file, runtime={"workers": 1}, train={"epochs": 2})
    return laid_out(small_data, tmp_path, store)


def run(kind):
    """What the stages make of it: classes, lists without the paths, digests, records."""
    name, path = kind
    set_params(Path("params.yaml"), dataset={"name": name, "path": path})
    for stage in (images, split, featurize):
        stage.main()
    rows = {subset: [(row.index, row.label) for row in lists.read(subset)] for subset in SUBSETS}
    records = {file.name: file.read_bytes() for file in FEATURES.glob("*.rec")}
    found = manifest.read(MANIFEST)
    return CLASSES.read_bytes(), rows, found.class_names, found.digests, found.sizes, records


def work():
    """What featurize had to do."""
    return json.loads((FEATURES / "work.json").read_text())


def scored():
    """The metrics of a head that is trained on what is there, without the time it took, and the pictures shown."""
    train.main()
    audit.main()
    evaluate.main()
    pictures = re.findall('data:image/jpeg;base64,[^"]+', (METRICS / "report.html").read_text())
    assert len(pictures) > 2
    return [(METRICS / name).read_text() for name in ("train.json", "test.json", "classes.csv")], pictures


def test_every_kind_has_the_same_result_and_it_is_computed_once(kinds, monkeypatch):
    first = run(kinds.pop("folder"))
    assert work()["forward_passes"] == 24
    scores = scored()
    for name, kind in kinds.items():
        assert run(kind) == first, name
        assert work()["forward_passes"] == 0, name
        assert scored() == scores, name
    # Computed anew, workers read it where it is.
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    assert run(kinds["shards in a store"]) == first
    assert (work()["forward_passes"], work()["shipped"]) == (24, 0)


def test_what_changes_in_the_store_after_the_look_is_refused(kinds, server):
    name, path = kinds["folder in a store"]
    set_params(Path("params.yaml"), dataset={"name": name, "path": path})
    images.main()
    split.main()
    changed = manifest.read(MANIFEST).paths[0]
    server[0].put({f"folder/{changed}": b"other"})
    with pytest.raises(InputError) as refused:
        featurize.main()
    assert str(refused.value) == f"{path}/{changed} was changed since it was looked at: run the same command again"


def test_without_the_store_the_stage_goes_on_with_what_it_recorded(kinds, server, capsys):
    name, path = kinds["folder in a store"]
    set_params(Path("params.yaml"), dataset={"name": name, "path": path})
    images.main()
    before = MANIFEST.read_bytes()
    server[0].fault = lambda method, key: 503
    images.main()
    assert capsys.readouterr().out.endswith(
        f"{path} cannot be listed: the server answers 503: going on with what {MANIFEST} recorded of it\n"
    )
    assert MANIFEST.read_bytes() == before
    server[0].fault = lambda method, key: 403
    with pytest.raises(InputError, match="cannot be listed: the server refuses"):
        images.main()
