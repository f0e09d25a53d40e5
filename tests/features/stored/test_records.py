"""Features as RecordIO: what is written can be read with MXNet alone, and what is damaged is not read."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.dataset.lists import Row
from stages.features.stored import records
from stages.features.stored.recipe import Recipe
from stages.features.stored.records import FeaturesInfo

ROOT = Path(__file__).parents[3]
REC, IDX = Path("data/features/train.rec"), Path("data/features/train.idx")
DIM = 6


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def digest(number):
    return hashlib.sha256(b"image %d" % number).digest()


def save_info(dtype, dim):
    recipe = Recipe("vgg16", "fc6", "crop", "float32", "00ff", "")
    info = FeaturesInfo(
        **recipe._asdict(), dim=dim, dtype=dtype, fingerprint="11ff", cpu="AVX2", classes=["cat", "dög"]
    )
    assert info.recipe == recipe
    info.save(records.ABOUT)


def write(features, labels=None):
    """Writes ``features`` (n, dim) as the subset train."""
    save_info(features.dtype.name, features.shape[1])
    labels = range(len(features)) if labels is None else labels
    rows = [Row(index, label, f"cat/{index}.jpg") for index, label in enumerate(labels)]
    records.write("train", rows, [digest(row.index) for row in rows], features)


def some_features(count=5, dtype=np.float16):
    return np.random.default_rng(0).normal(size=(count, DIM)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_written_is_read_back(dtype):
    features = some_features(dtype=dtype)
    write(features, labels=[3, 0, 256, 0, 1])
    found, labels = records.read("train")
    assert found.dtype == dtype
    assert (found == features).all()
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 0, 256, 0, 1]


def check_record(record, index, feature):
    header, payload = mx.recordio.unpack(record)
    assert header.flag == 0
    assert header.label == 10 + index
    assert header.id == index
    assert header.id2 == int.from_bytes(digest(index)[:8], "big")
    assert payload == feature.astype("<f2").tobytes()


def test_mxnet_alone_reads_the_records_in_order():
    features = some_features()
    write(features, labels=range(10, 15))
    file = mx.recordio.MXRecordIO(str(REC), "r")
    for index, feature in enumerate(features):
        check_record(file.read(), index, feature)
    assert file.read() is None


def test_mxnet_alone_reads_the_records_by_key():
    features = some_features()
    write(features, labels=range(10, 15))
    file = mx.recordio.MXIndexedRecordIO(str(IDX), str(REC), "r")
    assert file.keys == [0, 1, 2, 3, 4]
    for index in (3, 0, 4, 1, 2):
        check_record(file.read_idx(index), index, features[index])


def test_the_same_features_give_the_same_bytes():
    write(some_features())
    first = REC.read_bytes(), IDX.read_bytes()
    write(some_features())
    assert (REC.read_bytes(), IDX.read_bytes()) == first


def refusal():
    """The message with which reading is refused."""
    with pytest.raises(InputError) as refused:
        records.read("train")
    return str(refused.value)


@pytest.mark.parametrize("path", [REC, IDX, records.ABOUT], ids=lambda path: path.name)
def test_a_file_that_is_not_as_it_was_written_is_refused(path):
    write(some_features())
    whole = path.read_bytes()
    for data in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], whole + b"\n", b""):
        path.write_bytes(data)
        assert refusal() == (
            f"{path} is damaged or of another run (its SHA-256 is not that in train.sha256): "
            "run `dvc repro -f featurize`"
        )
    path.unlink()
    assert refusal() == f"{path} is missing: run `dvc repro -f featurize`"


@pytest.mark.parametrize("path", [REC, IDX], ids=lambda path: path.name)
def test_a_file_of_other_features_is_refused(path):
    write(some_features(4))
    other = path.read_bytes()
    write(some_features(5))
    path.write_bytes(other)
    assert refusal().startswith(f"{path} is damaged or of another run ")


def test_records_do_not_go_with_what_was_said_of_others():
    write(some_features())
    save_info("float16", DIM)
    info = FeaturesInfo.load(records.ABOUT)
    info.model_copy(update={"classes": ["dög", "cat"]}).save(records.ABOUT)
    assert refusal().startswith(f"{records.ABOUT} is damaged or of another run ")


def test_an_error_on_the_way_leaves_the_old_records():
    write(some_features())
    before = REC.read_bytes(), IDX.read_bytes()

    with pytest.raises(ValueError):
        records.write("train", [Row(0, 0, "cat/0.jpg")] * 2, [digest(0)] * 3, some_features(3))
    assert (REC.read_bytes(), IDX.read_bytes()) == before
    assert sorted(os.listdir("data/features")) == ["features.json", "train.idx", "train.rec", "train.sha256"]


# Files of this process may not grow beyond so many bytes.
FULL_DISK = """
import os, resource
import numpy as np
from stages.features.stored import records
from stages.dataset.lists import Row

rows = [Row(i, 0, "cat/a.jpg") for i in range(20)]
for limit in (100, 50_000, 82_000):  # at once, half way, while closing
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        records.write("train", rows, [bytes(32)] * 20, np.zeros((20, 1024), np.float32))
    except OSError as error:
        print(error)
    print(os.listdir("data/features"))
"""


def test_a_full_disk_leaves_nothing_behind():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FULL_DISK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[Errno 27] File too large: '{REC}'\n[]\n" * 3
