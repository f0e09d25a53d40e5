import struct

import numpy as np

from stages.backbones.files import mxnet
from stages.backend.mx import mx
from tests.checkpoints.samples import HALVES, HALVES_AS_FLOATS, params, params_by_hand, read, refusal, same


def test_params_of_every_age_are_read_as_mxnet_reads_them(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    heads = {
        "before versions": struct.pack("<III", 2, 2, 3),
        "version 1": struct.pack("<IIqq", 0xF993FAC8, 2, 2, 3),
        "version 2": struct.pack("<IiIqq", 0xF993FAC9, 0, 2, 2, 3),
    }
    for head in heads.values():
        same(read(tmp_path, params_by_hand(array, head)), {"a": array})
        same({"a": mx.nd.load(str(tmp_path / "weights.pth"))["a"].asnumpy()}, {"a": array})


def test_what_is_written_are_the_bytes_that_mxnet_writes(tmp_path):
    kinds = ("f4", "f2", "f8", "i8", "i4", "i1", "u1")
    arrays = {f"ö{kind}": np.arange(24).astype(kind).reshape(2, 3, 4)[:, :, ::-1] for kind in kinds}
    mx.nd.save(
        str(tmp_path / "theirs"), {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
    )
    mxnet.write(tmp_path / "ours", arrays)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_the_marks_of_an_exported_network_are_dropped(tmp_path):
    data = params(tmp_path, {"arg:conv0_weight": mx.nd.ones(2), "aux:norm0_running_mean": mx.nd.zeros(2)})
    assert list(read(tmp_path, data)) == ["conv0_weight", "norm0_running_mean"]


def test_bfloat16_becomes_float32(tmp_path):
    shape = struct.pack("<IiIqiii", 0xF993FAC9, 0, 1, 4, 1, 0, 12)
    data = struct.pack("<QQQ", 0x112, 0, 1) + shape + HALVES.tobytes() + struct.pack("<QQ", 1, 1) + b"x"
    same(read(tmp_path, data), {"x": HALVES_AS_FLOATS})


def test_arrays_without_names_and_sparse_ones_are_refused(tmp_path):
    assert "without names" in refusal(tmp_path, params(tmp_path, [mx.nd.ones(2)]))
    assert "sparse" in refusal(tmp_path, params(tmp_path, {"x": mx.nd.ones((2, 2)).tostype("row_sparse")}))
