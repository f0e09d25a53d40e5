from tests.checkpoints.samples import HALVES, HALVES_AS_FLOATS, read, refusal, safetensors_by_hand, same


def test_bfloat16_becomes_float32(tmp_path):
    header = {"x": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}
    data = safetensors_by_hand(header, HALVES.tobytes())
    same(read(tmp_path, data), {"x": HALVES_AS_FLOATS.reshape(2, 2)})


def test_a_type_that_numpy_lacks_is_refused(tmp_path):
    header = {"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}
    assert "F8_E4M3" in refusal(tmp_path, safetensors_by_hand(header, b"0"))
