"""Features as RecordIO: what is written can be read with MXNet alone, and what is damaged is not read."""

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.common.errors import InputError
from stages.dataset.lists import Row
from stages.features import records
from stages.features.recipe import Recipe
from stages.features.records import FeaturesInfo

ROOT = Path(__file__).parent.parent.parent
REC, IDX = Path("data/features/train.rec"), Path("data/features/train.idx")
DIM = 6


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def digest(number):
    return hashlib.sha256(b"image %d" % number).digest()


def save_info(dtype, dim):
    recipe = Recipe("vgg16", "fc6", "crop", "float32", "00ff", "")
    info = FeaturesInfo(**recipe._asdict(), dim=dim, dtype=dtype, fingerprint="11ff", classes=["cat", "dög"])
    assert info.recipe == recipe
    info.save(records.ABOUT)


def write(features, labels=None):
    """Writes ``features`` (n, dim) as the subset train."""
    save_info(features.dtype.name, features.shape[1])
    labels = range(len(features)) if labels is None else labels
    rows = [Row(index, label, f"cat/{index}.jpg") for index, label in enumerate(labels)]
    records.write("train", ((row, digest(row.index), feature) for row, feature in zip(rows, features)))


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


def test_the_number_that_separates_records_may_occur_in_a_feature():
    magic = struct.pack("<I", 0xCED7230A)
    features = np.frombuffer(magic * 12, "<f4").reshape(4, 3)
    write(features)
    assert records.read("train")[0].tobytes() == features.tobytes()
    file = mx.recordio.MXIndexedRecordIO(str(IDX), str(REC), "r")
    assert mx.recordio.unpack(file.read_idx(2))[1] == magic * 3


def test_the_same_features_give_the_same_bytes():
    write(some_features())
    first = REC.read_bytes(), IDX.read_bytes()
    write(some_features())
    assert (REC.read_bytes(), IDX.read_bytes()) == first


def sentence():
    """The message with which reading is refused."""
    with pytest.raises(InputError) as refused:
        records.read("train")
    message = str(refused.value)
    assert message.startswith(str(REC))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("lost", [1, 10, 30])
def test_a_record_cut_short_is_named(lost):
    write(some_features())
    REC.write_bytes(REC.read_bytes()[:-lost])
    assert "is damaged at record 4" in sentence()


@pytest.mark.parametrize("where", [0, 4], ids=["magic number", "length"])
def test_a_damaged_record_is_named(where):
    write(some_features())
    data = bytearray(REC.read_bytes())
    data[2 * len(data) // 5 + where] ^= 4
    REC.write_bytes(data)
    assert "is damaged at record 2" in sentence() or "record 2: " in sentence()


def test_what_is_no_recordio_is_refused():
    write(some_features())
    REC.write_bytes(b"once upon a time " * 10)
    assert "is damaged at record 0" in sentence()


def test_an_index_of_another_length_is_refused():
    write(some_features())
    longer = IDX.read_bytes()
    write(some_features(4))
    shorter = IDX.read_bytes()
    IDX.write_bytes(longer)
    assert "holds 4 records, train.idx 5" in sentence()
    write(some_features(5))
    IDX.write_bytes(shorter)
    assert "holds 5 records, train.idx 4" in sentence()
    IDX.write_bytes(b"")
    assert "holds 5 records, train.idx 0" in sentence()


def test_features_of_another_length_or_type_are_refused():
    write(some_features(dtype=np.float16))
    save_info("float32", DIM)
    assert sentence() == f"{REC}, record 0: 12 bytes are not 6 float32 numbers"
    save_info("float16", DIM + 1)
    assert sentence() == f"{REC}, record 0: 12 bytes are not 7 float16 numbers"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "is missing"),
        ("{", "is damaged"),
        ("{}", "is of another version of headstart"),
        ('{"dtype": "float64"}', "is of another version of headstart"),
    ],
)
def test_without_whole_information_about_them_features_are_not_read(text, what):
    write(some_features())
    records.ABOUT.unlink()
    if text is not None:
        records.ABOUT.write_text(text)
    with pytest.raises(InputError) as refused:
        records.read("train")
    assert str(refused.value) == f"data/features/features.json {what}: run `dvc repro -f featurize`"


def test_an_error_on_the_way_leaves_the_old_records():
    write(some_features())
    before = REC.read_bytes(), IDX.read_bytes()

    def breaks_off():
        yield Row(0, 0, "cat/0.jpg"), digest(0), some_features()[0]
        raise InputError("the worker has died")

    with pytest.raises(InputError, match="the worker has died"):
        records.write("train", breaks_off())
    assert (REC.read_bytes(), IDX.read_bytes()) == before
    assert sorted(os.listdir("data/features")) == ["features.json", "train.idx", "train.rec"]


# Files of this process may not grow beyond so many bytes: to MXNet the same as a full disk.
FULL_DISK = """
import os, resource
import numpy as np
from stages.features import records
from stages.common.errors import InputError
from stages.dataset.lists import Row

feature = np.zeros(1024, np.float32)
for limit in (100, 50_000, 82_000):  # at once, half way, while closing
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        records.write("train", ((Row(i, 0, "cat/a.jpg"), bytes(32), feature) for i in range(20)))
    except InputError as error:
        print(error)
    print(os.listdir("data/features"))
"""


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FULL_DISK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{REC} could not be written whole: is the disk full?\n[]\n" * 3
