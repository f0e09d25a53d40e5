import json

import numpy as np
import pytest

from stages.backbones import parameters
from stages.backend.mx import mx
from stages.common.disk import sums
from stages.common.disk.files import sha256
from stages.common.errors import InputError

TENSORS = {"b.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(4, np.float32)}


def test_what_is_written_is_gluons_own_file_and_what_it_is(tmp_path):
    info = parameters.save(tmp_path, TENSORS, "vgg16", "a größeres file", "00ff")
    path = tmp_path / "weights.params"
    found = mx.nd.load(str(path))
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name].asnumpy(), array)
    assert json.loads((tmp_path / "weights.json").read_text(encoding="utf-8")) == {
        "backbone": "vgg16",
        "source": "a größeres file",
        "source_sha256": "00ff",
        "sha256": sha256(path),
        "parameters": 10,
    }
    assert parameters.read_info(tmp_path) == info


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        parameters.save(tmp_path / name, TENSORS, "vgg16", "", "")
        files.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "is missing"),
        ("{", "is damaged"),
        ('{"backbone": "vgg16"}', "is of another version of headstart"),
        ('{"backbone": 16}', "is of another version of headstart"),
    ],
)
def test_an_info_that_cannot_be_used_is_one_sentence(tmp_path, text, what):
    path = tmp_path / "weights.json"
    if text is not None:
        path.write_text(text)
        sums.write([path])
    with pytest.raises(InputError, match=f"^{path} {what}: run `dvc repro"):
        parameters.read_info(tmp_path)


def test_an_info_that_is_not_as_it_was_written_is_refused(tmp_path):
    parameters.save(tmp_path, TENSORS, "vgg16", "a file", "")
    path = tmp_path / "weights.json"
    path.write_text(path.read_text().replace("vgg16", "vgg19"))
    with pytest.raises(InputError, match=f"^{path} is damaged or of another run "):
        parameters.read_info(tmp_path)
