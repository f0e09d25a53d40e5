"""State dicts in both of PyTorch's containers."""

import io
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from stages.checkpoints.pickles import STORAGE_TYPES
from tests.checkpoints.samples import (
    CONTAINERS,
    HALVES,
    HALVES_AS_FLOATS,
    Parameter,
    Storage,
    Tensor,
    read,
    refusal,
    same,
    small,
    tensor,
    zipped,
)


@CONTAINERS
def test_every_dtype_is_read(tmp_path, container):
    arrays = {kind: np.array([0, 1, 1], dtype) for kind, dtype in STORAGE_TYPES.items() if dtype != "bfloat16"}
    value = {kind: tensor(array, kind) for kind, array in arrays.items()}
    same(read(tmp_path, container(value)), arrays)


@CONTAINERS
def test_bfloat16_becomes_float32(tmp_path, container):
    same(read(tmp_path, container({"x": tensor(HALVES, "BFloat16Storage")})), {"x": HALVES_AS_FLOATS})


@CONTAINERS
def test_strides_offsets_and_shared_storages_are_honoured(tmp_path, container):
    base = np.arange(24, dtype=np.float32)
    storage = Storage(base)
    value = {
        "transposed": Tensor(storage, 0, (6, 4), (1, 6)),
        "window": Tensor(storage, 7, (2, 3), (6, 1)),
        "number": Tensor(storage, 23, (), ()),
        "none": Tensor(storage, 24, (0, 3), (3, 1)),
    }
    grid = base.reshape(4, 6)
    none = np.empty((0, 3), np.float32)
    expected = {"transposed": grid.T, "window": grid[1:3, 1:4], "number": grid[3, 5].reshape(()), "none": none}
    same(read(tmp_path, container(value)), expected)


def test_a_big_endian_archive_is_read(tmp_path):
    array = np.array([1.0, 2.0, 3.0], ">f4")
    assert read(tmp_path, zipped({"x": tensor(array)}, byteorder="big"))["x"].tolist() == [1, 2, 3]


@CONTAINERS
def test_parameters_and_the_oldest_tensors_are_read(tmp_path, container):
    array = np.ones((2, 2), np.float32)
    old = Parameter(Tensor(Storage(array), 0, (2, 2), (2, 1), "_rebuild_tensor"))
    same(read(tmp_path, container({"x": old})), {"x": array})


@CONTAINERS
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_the_state_dict_in_a_training_checkpoint_is_found(tmp_path, container, key):
    inner = OrderedDict((name, tensor(array)) for name, array in small().items())
    optimizer = {"state": {0: {"momentum": tensor(np.zeros(2, np.float32))}}, "lr": 0.1, "nesterov": None}
    same(read(tmp_path, container({"epoch": 3, "optimizer": optimizer, key: inner})), small())


def test_archives_of_something_else_and_compressed_ones_are_refused(tmp_path):
    archive = io.BytesIO()
    np.savez(archive, x=np.ones(3))
    assert "not one that PyTorch wrote" in refusal(tmp_path, archive.getvalue())
    value = {"x": tensor(np.zeros(1000, np.float32))}
    assert "not one that PyTorch wrote" in refusal(tmp_path, zipped(value, compression=zipfile.ZIP_DEFLATED))


@CONTAINERS
@pytest.mark.parametrize("value", [[1, 2], {}, {"epoch": 3}], ids=str)
def test_files_without_named_tensors_are_refused(tmp_path, container, value):
    assert "no named tensors" in refusal(tmp_path, container(value))
