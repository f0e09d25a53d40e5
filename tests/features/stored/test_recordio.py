"""RecordIO by arrays: the same bytes as MXNet's, read back as they were."""

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.features.stored import recordio

COUNT = 60


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Several blocks, the last one not full.
    monkeypatch.setattr(recordio, "BLOCK", 16)


@pytest.fixture(params=[("<f2", 5), ("<f2", 6), ("<f4", 1), ("<f4", 4)], ids=str)
def features(request):
    """Vectors of which every third is made up, in part, of the number that separates records."""
    dtype, dim = request.param
    generator = np.random.default_rng(0)
    payloads = generator.integers(0, 256, (COUNT, 8 * np.dtype(dtype).itemsize), np.uint8)
    words = payloads.view("<u4")
    words[::3] = np.where(generator.random(words[::3].shape) < 0.6, recordio.MAGIC, words[::3])
    return payloads.view(dtype)[:, :dim]


def ids_labels_hashes():
    generator = np.random.default_rng(1)
    hashes = generator.integers(0, 1 << 63, COUNT).astype(np.uint64) * np.uint64(2)
    # The header of two records has that number too.
    hashes[7] = recordio.MAGIC
    ids = list(range(COUNT))
    ids[9] = recordio.MAGIC
    return ids, generator.integers(0, 1000, COUNT).tolist(), hashes


def written_by_mxnet(features):
    file = mx.recordio.MXIndexedRecordIO("theirs.idx", "theirs.rec", "w")
    for key, label, number, feature in zip(*ids_labels_hashes(), features):
        file.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, label, key, int(number)), feature.tobytes()))
    file.close()


def test_it_writes_what_mxnet_writes(features, tmp_path):
    recordio.write(tmp_path / "ours.rec", tmp_path / "ours.idx", *ids_labels_hashes(), features)
    written_by_mxnet(features)
    for suffix in (".rec", ".idx"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()


def test_it_reads_what_mxnet_writes(features, tmp_path):
    written_by_mxnet(features)
    found = np.concatenate(list(recordio.read(tmp_path / "theirs.rec", features.dtype, features.shape[1])))
    ids, labels, hashes = ids_labels_hashes()
    assert found["feature"].tobytes() == features.tobytes()
    assert found["id"].tolist() == ids
    assert found["label"].tolist() == labels
    assert (found["id2"] == hashes).all()


def test_no_records_are_an_empty_file(tmp_path):
    nothing = np.empty((0, 4), "<f2")
    recordio.write(tmp_path / "a.rec", tmp_path / "a.idx", [], [], np.empty(0, np.uint64), nothing)
    assert list(recordio.read(tmp_path / "a.rec", nothing.dtype, 4)) == []
    assert (tmp_path / "a.idx").read_bytes() == b""


@pytest.mark.parametrize("change", ["another length", "cut", "foreign"])
def test_what_is_no_record_is_refused(change, features, tmp_path):
    path, dim = tmp_path / "ours.rec", features.shape[1]
    recordio.write(path, tmp_path / "ours.idx", *ids_labels_hashes(), features)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif change == "foreign":
        path.write_bytes(path.read_bytes() + b"more of another kind")
    with pytest.raises(ValueError):
        list(recordio.read(path, features.dtype, dim + (4 if change == "another length" else 0)))
