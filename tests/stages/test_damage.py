"""Whatever has become of a file that a stage or command reads: it is refused in one sentence, or nothing hangs on it.

Tried on a project in which all has run, with damage as in ``tests.damage`` and with the files of another run.
"""

import shutil
from functools import partial

import pytest

from bench.project import set_params
from stages import evaluate, featurize, images, split, train
from stages.backbones import parameters, zoo
from stages.backend.mx import mx
from stages.classifier import trained as classifier
from stages.common.errors import InputError
from stages.common.layout import MANIFEST, SUBSETS
from stages.dataset import classes, lists, manifest
from stages.features import records
from tests.damage import KINDS, SOAK, damaged

pytestmark = pytest.mark.xdist_group("trained")


def loaded_weights():
    info = parameters.check()
    return info, zoo.load(info.backbone, sha256=info.sha256)


def loaded_head():
    return classifier.load(mx.cpu())


# What reads a file, and the stages that do.
READERS = {
    "data/manifest.tsv": (partial(manifest.read, MANIFEST), partial(manifest.find, MANIFEST, ["cat/000.jpg"])),
    "data/manifest.sha256": (partial(manifest.read, MANIFEST), split.main),
    "data/classes.txt": (classes.read, split.main),
    "data/classes.sha256": (classes.read, split.main),
    "data/weights/weights.params": (parameters.check, loaded_weights),
    "data/weights/weights.json": (parameters.check, featurize.main),
    "data/weights/weights.sha256": (parameters.check, featurize.main),
    "data/model/head.params": (loaded_head, evaluate.main),
    "data/model/head.json": (loaded_head, evaluate.main),
    "data/model/head.sha256": (loaded_head, evaluate.main),
}
for _subset in SUBSETS:
    for _kind in ("lst", "sha256"):
        READERS[f"data/split/{_subset}.{_kind}"] = (partial(lists.read, _subset), featurize.main)
    for _name in (f"{_subset}.rec", f"{_subset}.idx", f"{_subset}.sha256", "features.json"):
        READERS[f"data/features/{_name}"] = (
            partial(records.read, _subset),
            evaluate.main if _subset == "test" else train.main,
        )


@pytest.fixture(scope="module")
def project(trained, tmp_path_factory):
    """A copy of ``trained``, where files may be damaged."""
    folder = tmp_path_factory.mktemp("damage") / "project"
    shutil.copytree(trained, folder, symlinks=True)
    return folder


@pytest.fixture(scope="module")
def other(trained, tmp_path_factory):
    """Another run: of fewer images, a class of another name, another split, and weights a little different."""
    folder = tmp_path_factory.mktemp("damage") / "other"
    shutil.copytree(trained, folder, symlinks=True)
    (folder / "photos/cat").rename(folder / "photos/cow")
    for number in range(4):
        (folder / f"photos/cow/00{number}.jpg").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        set_params(folder / "params.yaml", split={"seed": 1}, train={"seed": 1})
        for stage in (images, split, featurize, train):
            stage.main()
        info, network = loaded_weights()
        tensors = {name: value.data().asnumpy() * 2 for name, value in zoo.named_parameters(network).items()}
        parameters.save(folder / "data/weights", tensors, info.backbone, info.source, info.source_sha256)
    return folder


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


@pytest.mark.soak
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_in_one_sentence(here, other, name):
    path = here / name
    whole = path.read_bytes()
    assert (other / name).read_bytes() != whole
    try:
        for number, (kind, data) in enumerate(damaged(whole, (other / name).read_bytes(), 12 * SOAK, name)):
            path.write_bytes(data)
            for read in READERS[name][: 2 if number < len(KINDS) else 1]:
                with pytest.raises(InputError) as refused:
                    read()
                message = str(refused.value)
                assert message.isprintable() and "`dvc repro" in message and len(message) < 300, kind
    finally:
        path.write_bytes(whole)
    for read in READERS[name]:
        read()


SHOWN = [
    "metrics/train.json",
    "metrics/featurize.json",
    *(
        f"metrics/curves/plots/metrics/{subset}/{name}.tsv"
        for subset in ("train", "valid")
        for name in ("loss", "top1")
    ),
]


@pytest.mark.soak
@pytest.mark.parametrize("name", SHOWN)
def test_damage_to_what_the_report_shows_is_shown_or_refused(here, other, name):
    """Nothing is decided by these files, and git has those that are not drawn."""
    path = here / name
    whole = path.read_bytes()
    try:
        for _, data in damaged(whole, (other / name).read_bytes(), 12 * SOAK, name):
            path.write_bytes(data)
            try:
                evaluate.main()
            except InputError as error:
                message = str(error)
                assert message.startswith("metrics/") and "`dvc repro" in message and message.isprintable()
    finally:
        path.write_bytes(whole)
    evaluate.main()
