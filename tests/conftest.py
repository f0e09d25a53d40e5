"""A copy of the project to run the real `dvc` in, and the small data it runs on."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.pictures import save_folder

ROOT = Path(__file__).parent.parent
BACKBONE = "mobilenet0.25"

# There are as many test processes as cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests never touch the user's feature cache."""
    os.environ["HEADSTART_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """A Gluon parameter file of a small backbone with random weights."""
    from stages.backbones import zoo as networks
    from stages.backend.mx import mx

    mx.random.seed(7)
    np.random.seed(7)
    network = networks.build(BACKBONE)
    network.initialize(mx.init.Xavier())
    network(mx.nd.zeros((1, 3, 224, 224))).wait_to_read()
    path = tmp_path_factory.mktemp("weights") / "random.params"
    network.save_parameters(str(path))
    return path


def set_params(path, **values):
    """Changes the params.yaml at ``path``, which begins as the shipped one: ``set_params(path, train={"lr": 0.1})``."""
    params = yaml.safe_load((path if path.exists() else ROOT / "params.yaml").read_text())
    for section, settings in values.items():
        params[section].update(settings)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A function that makes an empty folder the place where the stages work, with weights and changed params in it."""
    monkeypatch.chdir(tmp_path)

    def make(backbone, weights, **values):
        (tmp_path / "data/weights").mkdir(parents=True)
        (tmp_path / "data/weights/weights.params").symlink_to(weights)
        (tmp_path / "data/weights/weights.json").write_text(json.dumps({"backbone": backbone}))
        set_params(tmp_path / "params.yaml", **values)
        return tmp_path

    return make


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory):
    """A Gluon parameter file of ``narrow_vgg`` with random weights."""
    from stages.backbones import checkpoint
    from stages.backend.mx import mx

    rng = np.random.default_rng(11)
    arrays = {}
    for name, shape in checkpoint.parameter_shapes(narrow_vgg(), 224).items():
        spread = np.float32(np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1)
        arrays[name] = mx.nd.array(rng.standard_normal(shape, np.float32) * spread)
    path = tmp_path_factory.mktemp("weights") / "vgg.params"
    mx.nd.save(str(path), arrays)
    return path


def narrow_vgg():
    """The zoo's VGG with one convolution per block, two channels wide, with 20 outputs; fc6 and fc7 as wide as ever."""
    from stages.backend.mx import mx

    return mx.gluon.model_zoo.vision.VGG([1] * 5, [2] * 5, classes=20)


@pytest.fixture
def vgg(workspace, vgg_file, monkeypatch):
    """In a folder of its own with weights: ``vgg16`` is ``narrow_vgg`` there. Returns the network, with its weights."""
    from stages.backbones import zoo as networks

    monkeypatch.setattr(networks, "build", lambda name: narrow_vgg())
    workspace("vgg16", vgg_file)
    return networks.load("vgg16")


class Project:
    """A git clone of the working tree in ``folder``, with the commands a user types."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HEADSTART_CACHE": str(self.folder.parent / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *command, code=0, **environment):
        """Runs ``command`` in the project; returns what it printed. Fails unless it exits with ``code``."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def repro(self, **settings):
        """`dvc repro`; returns the names of the stages that ran."""
        printed = self.run("dvc", "repro", **settings)
        return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]

    def run_queue(self, jobs=2):
        """`dvc queue start`; returns, when all is done, what `dvc queue status` says."""
        found = "git", "for-each-ref", "refs/exps/??/*/*"
        queued = len(re.findall("Queued", self.run("dvc", "queue", "status")))
        wanted = len(self.run(*found).splitlines()) + queued
        self.run("dvc", "queue", "start", "-j", str(jobs))
        deadline = time.monotonic() + 240
        # git answers at once; dvc takes the time from the experiments.
        while len(self.run(*found).splitlines()) < wanted and time.monotonic() < deadline:
            time.sleep(0.5)
        while "Running" in (status := self.run("dvc", "queue", "status")) or "Queued" in status:
            assert time.monotonic() < deadline, status
            time.sleep(1)
        return status

    def set(self, **values):
        """Changes params.yaml: ``set(train={"lr": 0.1})``."""
        set_params(self.folder / "params.yaml", **values)

    def metrics(self, stage):
        return json.loads((self.folder / "metrics" / f"{stage}.json").read_text())

    def bytes(self, pattern):
        """The bytes of all files that match ``pattern``, by their path."""
        return {
            str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.glob(pattern)) if p.is_file()
        }

    def features(self):
        return {**self.bytes("data/features/*.rec"), **self.bytes("data/features/*.idx")}


def clone(folder):
    """A project in ``folder``, committed, as a fresh `git clone` of this working tree would be."""
    folder = Path(folder)
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.email", "test@example.com")
    project.run("git", "config", "user.name", "test")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "start")
    return project


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A folder of three classes with eight small photos each."""
    folder = tmp_path_factory.mktemp("photos")
    save_folder(folder, ["cat", "dög", "red panda"], per_class=8, size=(96, 72))
    return folder


@pytest.fixture(scope="session")
def small_project(tmp_path_factory, small_data, weights_file):
    """A function that makes a project with its own copy of the small data and the small backbone."""

    def make(name="project"):
        place = tmp_path_factory.mktemp(name)
        shutil.copytree(small_data, place / "photos")
        project = clone(place / "project")
        project.photos = place / "photos"
        project.set(
            dataset={"name": "folder", "path": str(project.photos)},
            backbone={"name": BACKBONE, "weights": "file", "path": str(weights_file)},
            train={"epochs": 3},
            runtime={"workers": 1},
        )
        project.run("git", "commit", "-qam", "small data")
        return project

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_data, weights_file):
    """A folder in which every stage has run, on the small data with the small backbone."""
    from stages import evaluate, featurize, images, split, train, weights

    folder = tmp_path_factory.mktemp("trained")
    set_params(
        folder / "params.yaml",
        dataset={"name": "folder", "path": str(small_data)},
        backbone={"name": BACKBONE, "weights": "file", "path": str(weights_file)},
        train={"epochs": 3},
        runtime={"workers": 1},
    )
    before = os.getcwd()
    os.chdir(folder)
    try:
        for stage in (images, weights, split, featurize, train, evaluate):
            stage.main()
    finally:
        os.chdir(before)
    return folder
