"""The small data and backbones that tests run on, and a clone of the project to run the real `dvc` in."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.pictures import photo, save_folder
from bench.project import MACHINE_CODE, clone, set_params

ROOT = Path(__file__).parent.parent
BACKBONE = "mobilenet0.25"

# A user's Python keeps what it has compiled; without that a worker takes twice as long to start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# There are as many test processes as cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests never touch the user's caches, but for the machine code that `make setup` has made."""
    folder = tmp_path_factory.mktemp("caches")
    os.environ.update(
        HEADSTART_CACHE=str(folder / "features"), XDG_CACHE_HOME=str(folder), NUMBA_CACHE_DIR=MACHINE_CODE
    )


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """A Gluon parameter file of a small backbone with random weights."""
    from bench.weights import save_random
    from stages.backbones import catalogue, zoo
    from stages.backend.mx import mx
    from stages.preprocessing import pixels

    backbone, network = catalogue.find(BACKBONE), zoo.build(BACKBONE)
    path = save_random(BACKBONE, tmp_path_factory.mktemp("weights") / "random.params")
    network.load_parameters(str(path))
    pictures = np.stack([pixels.pixels(photo(seed), backbone, "crop") for seed in range(4)])
    batch = mx.nd.array(pixels.normalise(pictures, backbone))
    features = zoo.body(network, "pool")(batch).asnumpy().astype(np.float16)
    # Where features are all zero, or all the same, comparing them shows nothing.
    assert np.isfinite(features).all() and features.any(axis=1).all()
    assert len(np.unique(features, axis=0)) == len(features)
    return path


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A function that makes an empty folder the place where the stages work, with weights and changed params in it."""
    from stages.backbones.parameters import WeightsInfo
    from stages.common.disk import sums
    from stages.common.disk.files import sha256

    monkeypatch.chdir(tmp_path)

    def make(backbone, weights, **values):
        (tmp_path / "data/weights").mkdir(parents=True)
        (tmp_path / "data/weights/weights.params").symlink_to(weights)
        digest = sha256(weights)
        info = {"backbone": backbone, "source": weights.name, "source_sha256": digest, "sha256": digest}
        WeightsInfo(**info, parameters=0).save(tmp_path / "data/weights/weights.json")
        sums.write([tmp_path / "data/weights/weights.json"])
        set_params(tmp_path / "params.yaml", **values)
        return tmp_path

    return make


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory):
    """A Gluon parameter file of ``narrow_vgg`` with random weights."""
    from stages.backend.mx import mx
    from stages.checkpoints import matching

    rng = np.random.default_rng(11)
    arrays = {}
    for name, shape in matching.parameter_shapes(narrow_vgg(), 224).items():
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
    from stages.backbones import zoo
    from stages.common.disk.files import sha256

    monkeypatch.setattr(zoo, "build", lambda name: narrow_vgg())
    workspace("vgg16", vgg_file)
    return zoo.load("vgg16", sha256=sha256(vgg_file))


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
            train={"epochs": 3, "lr": 0.01},
            audit={"enabled": False},
            runtime={"workers": 1},
        )
        project.run("git", "commit", "-qam", "small data")
        return project

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_data, weights_file):
    """A folder in which every stage has run, on the small data, which lies in ``photos``, with the small backbone."""
    from stages import audit, evaluate, featurize, images, split, train, weights

    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(small_data, folder / "photos")
    set_params(
        folder / "params.yaml",
        dataset={"name": "folder", "path": "photos"},
        backbone={"name": BACKBONE, "weights": "file", "path": str(weights_file)},
        train={"epochs": 3},
        runtime={"workers": 1},
    )
    before = os.getcwd()
    os.chdir(folder)
    try:
        for stage in (images, weights, split, featurize, train, audit, evaluate):
            stage.main()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="session")
def unsure(trained, tmp_path_factory):
    """A copy of ``trained`` whose head is never quite sure: to compare probabilities of 0 and 1 would show nothing.

    Its features are float32: to such a head rounding them to float16 makes a difference of 0.001.
    """
    from stages.backbones import zoo
    from stages.backend.mx import mx
    from stages.classifier.head import build
    from stages.classifier.model import trained as classifier
    from stages.common.settings.layout import SUBSETS
    from stages.features.stored import records

    folder = tmp_path_factory.mktemp("unsure") / "copy"
    shutil.copytree(trained, folder, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        loaded = classifier.load()
        logits = loaded.logits(np.concatenate([records.read(subset)[0] for subset in SUBSETS]))
        features = loaded.info.features.model_copy(update={"dtype": "float32"})
        info, network = loaded.info, zoo.build(features.backbone)
        head = build(network, features.cut, len(features.classes), 0.0, "last", [mx.cpu()], loaded.values)
        # Each class is now as likely as any other, some images more and some less so.
        output, scale = head.trained[-1], 2 / logits.std(axis=0)
        output.weight.set_data(mx.nd.array(output.weight.data().asnumpy() * scale[:, None]))
        output.bias.set_data(mx.nd.array((output.bias.data().asnumpy() - logits.mean(axis=0)) * scale))
        about = features, info.weights, info.train, info.chosen, info.train_images, info.valid_images
        classifier.save(head.values(), *about)
    return folder


@pytest.fixture(scope="session")
def exported(unsure, tmp_path_factory):
    """The folder that ``stages.export`` has written of the classifier in ``unsure``."""
    from stages import export

    folder = tmp_path_factory.mktemp("exported") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(unsure)
        export.main(["--output", str(folder)])
    return folder
