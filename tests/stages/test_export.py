"""The exported classifier gives the pipeline's own predictions, in a folder that holds nothing else."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from stages import export, predict
from stages.backbones import catalogue
from stages.common.errors import InputError
from stages.dataset import classes, lists
from stages.dataset.sources.files.decode import decode
from stages.preprocessing import pixels
from tests.conftest import BACKBONE
from tests.exports.running import assert_same, by_mxnet, by_onnx

pytestmark = pytest.mark.xdist_group("trained")


@pytest.fixture
def here(unsure, monkeypatch):
    monkeypatch.chdir(unsure)


RUNNERS = pytest.mark.parametrize("runner", [by_mxnet, by_onnx])


# The graph


@RUNNERS
def test_the_test_images_get_the_pipelines_own_probabilities(here, exported, capsys, runner):
    images = [f"photos/{row.path}" for row in lists.read("test")]
    predict.main(["--json", "--top", "3", *images])
    answers = [json.loads(line)["predictions"] for line in capsys.readouterr().out.splitlines()]
    labels = (exported / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == classes.read()
    expected = [[{p["class"]: p["probability"] for p in answer}[name] for name in labels] for answer in answers]

    backbone = catalogue.find(BACKBONE)
    decoded = [decode(Path(path).read_bytes(), path) for path in images]
    batch = pixels.normalise(np.stack([pixels.pixels(image, backbone, "crop") for image in decoded]), backbone)
    assert len(batch) > 1
    assert_same(runner(exported, batch), np.array(expected))
    assert_same(runner(exported, batch[:1]), np.array(expected[:1]))


def test_batch_norms_are_folded_and_the_image_is_the_only_input(exported):
    model = onnx.load(exported / "model.onnx")
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"}
    assert [value.name for value in model.graph.input] == ["data"]
    assert [value.name for value in model.graph.output] == ["probabilities"]
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert model.opset_import[0].version == 13


# The folder


def test_again_gives_the_same_files(here, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "again")
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert sorted(before) == sorted(export.FILES)
    export.main(["--output", str(tmp_path / "again")])
    after = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    for name in ("labels.txt", "README.md"):
        assert after[name] == before[name]
    assert after.keys() == before.keys()


@pytest.mark.parametrize("name", ["holiday.jpg", ".git"])
def test_a_folder_that_holds_anything_else_is_left_alone(here, tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"holds {re.escape(name)}, which is no part of an export"):
        export.main(["--output", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_not_a_place(here, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: name a folder to write to$"):
        export.main(["--output", str(tmp_path / "file")])


def test_without_the_package_onnx_it_says_how_to_get_it(here, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="^writing ONNX needs the package onnx: `pip install -r requirements-export"):
        export.main(["--output", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
