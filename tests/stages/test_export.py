"""The exported classifier gives the pipeline's own predictions, and its model card tells the truth."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from bench.pictures import photo
from stages import export, predict
from stages.backbones import zoo as networks
from stages.backbones.catalogue import BACKBONES
from stages.backend.mx import mx
from stages.classifier import head
from stages.classifier import trained as classifier
from stages.common import params
from stages.common.errors import InputError
from stages.dataset import lists
from stages.dataset.decode import decode
from stages.features import compute as features
from stages.inference import compile as inference
from stages.inference import pixels
from tests.conftest import BACKBONE

pytestmark = pytest.mark.xdist_group("trained")

TOLERANCE = 1e-4


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The folder that the command has written."""
    folder = tmp_path_factory.mktemp("exported") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        export.main(["--output", str(folder)])
    return folder


def by_mxnet(folder, batch):
    network = mx.gluon.SymbolBlock.imports(
        str(folder / "model-symbol.json"), ["data"], str(folder / "model-0000.params")
    )
    return network(mx.nd.array(batch)).asnumpy()


def by_onnx(folder, batch):
    (found,) = onnxruntime.InferenceSession(str(folder / "model.onnx")).run(None, {"data": batch})
    return found


RUNNERS = pytest.mark.parametrize("runner", [by_mxnet, by_onnx])


def assert_same(found, expected):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


# The graph


@RUNNERS
def test_the_test_images_get_the_pipelines_own_probabilities(here, exported, capsys, runner):
    images = [f"data/images/{row.path}" for row in lists.read("test")]
    predict.main(["--json", "--top", "3", *images])
    answers = [json.loads(line)["predictions"] for line in capsys.readouterr().out.splitlines()]
    labels = (exported / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == lists.read_classes()
    expected = [[{p["class"]: p["probability"] for p in answer}[name] for name in labels] for answer in answers]

    backbone = BACKBONES[BACKBONE]
    decoded = [decode(features.read(path)[0], path) for path in images]
    batch = pixels.normalise(np.stack([pixels.pixels(image, backbone, "crop") for image in decoded]), backbone)
    assert len(batch) > 1
    assert_same(runner(exported, batch), np.array(expected))
    assert_same(runner(exported, batch[:1]), np.array(expected[:1]))


@pytest.mark.parametrize(("cut", "trainable"), [("fc6", "last"), ("conv", "last"), ("fc6", "all")])
def test_the_dense_layers_of_vgg_are_in_it(vgg, tmp_path, cut, trainable):
    recipe = features.Recipe("vgg16", cut, "crop", "float32", weights="", calibration="")
    batch = mx.nd.array(np.random.default_rng(1).standard_normal((3, 3, 224, 224), np.float32))
    network = head.build("vgg16", cut, 4, 0.0, trainable, [mx.cpu()])
    network.trained[-1].initialize(mx.init.Normal(0.2))
    computed = inference.compile(networks.Body(vgg, cut), batch.shape)(batch.asnumpy())
    expected = mx.nd.softmax(mx.nd.array(network.logits(computed.asnumpy()))).asnumpy()
    assert expected.std(axis=0).max() > 0.01

    symbol, arrays = export.graph(recipe, network)
    # fc6, fc7 and the trained layer, each with weights and bias.
    assert sum("dense" in name for name in arrays) == 6
    export.write_mxnet(symbol, arrays, tmp_path)
    export.write_onnx(symbol, arrays, 224, tmp_path / "model.onnx")
    for runner in (by_mxnet, by_onnx):
        assert_same(runner(tmp_path, batch.asnumpy()), expected)


def test_a_batch_norm_without_scale_has_none_in_onnx_either(tmp_path):
    # As the first layer of ResNet v2; what the file holds for its scale is not to be used.
    data = mx.sym.var("data")
    norm = mx.sym.BatchNorm(data, name="norm", fix_gamma=True, eps=1e-5)
    symbol = mx.sym.softmax(mx.sym.Flatten(norm), axis=-1, name="probabilities")
    arrays = {name: mx.nd.array([3.0, 2.0, 0.5]) for name in ("norm_gamma", "norm_beta", "norm_moving_var")}
    arrays["norm_moving_mean"] = mx.nd.array([0.1, -0.1, 0])
    export.write_mxnet(symbol, arrays, tmp_path)
    export.write_onnx(symbol, arrays, 2, tmp_path / "model.onnx")
    batch = np.random.default_rng(2).standard_normal((2, 3, 2, 2), np.float32)
    np.testing.assert_allclose(by_onnx(tmp_path, batch), by_mxnet(tmp_path, batch), atol=1e-6)


def test_batch_norms_are_folded_and_the_image_is_the_only_input(exported):
    model = onnx.load(exported / "model.onnx")
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"}
    assert [value.name for value in model.graph.input] == ["data"]
    assert [value.name for value in model.graph.output] == ["probabilities"]
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert model.opset_import[0].version == 13


# The model card


def snippets(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_its_snippets_run_as_they_stand(exported, trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    image = trained / "data/images/dög/000.jpg"
    predict.main(["--json", str(image)])
    (best,) = json.loads(capsys.readouterr().out)["predictions"]
    program = "".join(snippets(exported)) + "print(labels[probabilities[0].argmax()], probabilities.max())\n"
    done = subprocess.run(
        [sys.executable, "-c", program, image], cwd=exported, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        name, _, probability = line.rpartition(" ")
        assert name == best["class"]
        assert float(probability) == pytest.approx(best["probability"], abs=TOLERANCE)


@pytest.mark.parametrize("name", ["efficientnet_lite1", "inceptionv3"])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_its_pixels_are_the_pipelines(here, tmp_path, monkeypatch, name, resize):
    recipe, _, about = classifier.load(mx.cpu())
    dataset = params.load().dataset
    (tmp_path / "README.md").write_text(export.card(recipe._replace(backbone=name, resize=resize), about, dataset))
    photo(5, (301, 200)).save(tmp_path / "photo.png")
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "photo.png")])
    names = {}
    exec(snippets(tmp_path)[0].split("session =")[0], names)
    image = decode((tmp_path / "photo.png").read_bytes(), "photo.png")
    expected = pixels.normalise(pixels.pixels(image, BACKBONES[name], resize)[None], BACKBONES[name])
    assert names["data"].dtype == np.float32
    np.testing.assert_allclose(names["data"], expected, atol=1e-5)


def test_it_says_what_was_measured_and_what_trained_it(here, exported):
    text = (exported / "README.md").read_text(encoding="utf-8")
    with open("metrics/test.json") as file:
        top1 = json.load(file)["top1"]
    for line in (f"| backbone | {BACKBONE} |", f"| top1 | {top1} |", "| epochs | 3 |", "| test images | 6 |"):
        assert line in text, line
    # Where on the disk it was made is nobody's business.
    assert str(exported.parent) not in text


def test_without_metrics_it_says_not_measured(here, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "METRICS", tmp_path)
    recipe, _, about = classifier.load(mx.cpu())
    assert "| not measured | |" in export.card(recipe, about, params.load().dataset)


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
