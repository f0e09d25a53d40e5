"""The format of a weights file is told by its content; what is damaged or none is refused in one sentence."""

import contextlib
import pickle
import random
import struct
import tracemalloc

import numpy as np
import pytest

from stages.checkpoints import read as reader
from stages.common.errors import InputError
from tests.checkpoints.samples import (
    Storage,
    Tensor,
    every_kind,
    legacy,
    read,
    refusal,
    safetensors_by_hand,
    same,
    small,
    zipped,
)


def test_every_kind_is_told_by_its_content_and_read_the_same(tmp_path):
    for kind, data in every_kind(tmp_path).items():
        found = read(tmp_path, data, name="file.without.its.suffix")
        expected = dict(sorted(small().items())) if kind == "safetensors" else small()
        same(found, expected)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is not a weights file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is not a weights file"),
        (b'{"data":{"x": 1}}', "is not a weights file"),
        (pickle.dumps({"x": 1}, 2), "not one that PyTorch wrote"),
        (b"PK\x03\x04", "is damaged"),
    ],
)
def test_what_is_not_a_weights_file_is_refused(tmp_path, data, reason):
    assert reason in refusal(tmp_path, data)


def test_directories_and_missing_files_are_refused(tmp_path):
    for path, reason in ((tmp_path, "is a directory"), (tmp_path / "none.pth", "is not there")):
        with pytest.raises(InputError, match=reason) as caught:
            reader.read(path)
        assert str(path) in str(caught.value) and ".safetensors" in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for data in every_kind(tmp_path).values():
        for length in (*range(0, len(data), 5), len(data) - 1):
            refusal(tmp_path, data[:length])


def test_damage_is_refused_or_read_but_never_crashes(tmp_path):
    chance = random.Random(0)
    for data in every_kind(tmp_path).values():
        for _ in range(300):
            damaged = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(InputError):
                read(tmp_path, bytes(damaged))


def test_sizes_beyond_the_file_are_refused_without_allocating_them(tmp_path):
    huge = {"x": Tensor(Storage(np.zeros(4, np.float32), count=2**34), 0, (2**34,), (1,))}
    scalar = struct.pack("<IiIqiii", 0xF993FAC9, 0, 1, 2**34, 1, 0, 0)
    forged = [
        legacy(huge),
        zipped(huge),
        # A pickle that fills a memo of 2**32 places, and one with a string of 2**40 bytes.
        b"\x80\x02Nr\xff\xff\xff\xff.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
        struct.pack("<QQQ", 0x112, 0, 1) + scalar,
        struct.pack("<QQQ", 0x112, 0, 2**60),
        struct.pack("<QQQII", 0x112, 0, 1, 0xF993FAC8, 2**31),
        safetensors_by_hand({"x": {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 2**36]}}, b"1234"),
    ]
    tracemalloc.start()
    for data in forged:
        refusal(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
