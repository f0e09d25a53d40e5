"""Whatever has become of a file that a stage or command reads: it is refused in one sentence, or nothing hangs on it.

Tried on a project in which all has run, with damage as in ``tests.damage`` and with the files of another run; and on
what users bring.
"""

import hashlib
import random
import re
import resource
import shutil
import struct
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import pytest

from bench.pictures import encoded, photo
from bench.project import ROOT, set_params
from stages import evaluate, export, featurize, images, split, train, weights
from stages.backbones import parameters, zoo
from stages.checkpoints.read import read as read_weights
from stages.classifier.model import trained as classifier
from stages.common import errors
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import MANIFEST, SUBSETS
from stages.dataset import classes, lists, manifest
from stages.dataset.sources import caltech256
from stages.dataset.sources.files.decode import decode
from stages.dataset.sources.files.index import Index
from stages.features.stored import records
from tests.checkpoints.samples import every_kind
from tests.damage import KINDS, SOAK, damaged, memory_of_at_most, seconds_of_at_most
from tests.dataset.sources.test_caltech256 import ARCHIVE

pytestmark = pytest.mark.xdist_group("trained")


def loaded_weights():
    info = parameters.check()
    return info, zoo.load(info.backbone, sha256=info.sha256)


def loaded_head():
    return classifier.load()


# --- What is generated -----------------------------------------------------------------------------------------------

# What reads a file, and a stage that does.
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
                # The stages behind hold more than the file.
                counted = name.endswith(".params") and read is READERS[name][0]
                limit = memory_of_at_most(2 * len(whole)) if counted else nullcontext()
                with limit, pytest.raises(InputError) as refused:
                    read()
                message = str(refused.value)
                assert message.isprintable() and "`dvc repro" in message and len(message) < 300, kind
    finally:
        path.write_bytes(whole)
    for read in READERS[name]:
        read()


# --- What is only shown ----------------------------------------------------------------------------------------------

SHOWN = [
    "metrics/curves/kept.json",
    "data/features/work.json",
    *(
        f"metrics/curves/plots/metrics/{subset}/{name}.tsv"
        for subset in ("train", "valid")
        for name in ("loss", "top1")
    ),
    "metrics/curves/plots/metrics/seconds.tsv",
    "metrics/audit.csv",
    "metrics/audit.json",
    "data/map/map.json",
    "data/map/tiles.webp",
]


@pytest.mark.soak
@pytest.mark.parametrize("name", SHOWN)
def test_damage_to_what_the_report_shows_is_shown_or_refused(here, other, name):
    """Nothing is decided by these files, and git has those that are not drawn."""
    path = here / name
    whole = path.read_bytes()
    try:
        for _, data in damaged(whole, (other / name).read_bytes(), len(KINDS) * SOAK, name):
            path.write_bytes(data)
            try:
                evaluate.main()
            except InputError as error:
                message = str(error)
                assert (
                    message.startswith(("metrics/", "data/features/work.json", "data/map/"))
                    and "`dvc repro" in message
                    and message.isprintable()
                )
    finally:
        path.write_bytes(whole)
    evaluate.main()


# --- A full disk -----------------------------------------------------------------------------------------------------

WRITTEN = {
    images: ["data/manifest.tsv", "data/classes.txt"],
    weights: ["data/weights/weights.params"],
    split: ["data/split/train.lst"],
    featurize: ["data/features/train.rec"],
    train: ["data/model/head.params", "metrics/curves/plots/metrics/train/loss.tsv"],
    evaluate: ["metrics/report.html", "metrics/predictions.csv"],
    export: ["data/export/model.onnx", "data/export/README.md"],
}


@contextmanager
def files_of_at_most(size):
    """In the block no file can grow beyond so many bytes: to those who write it is as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.soak
@pytest.mark.parametrize("stage", WRITTEN, ids=lambda stage: stage.__name__)
def test_a_full_disk_is_told_in_one_sentence(here, stage, capsys):
    chance = random.Random(stage.__name__)
    main = partial(export.main, []) if stage is export else stage.main
    if stage is export:
        main()
    for name in WRITTEN[stage] * SOAK:
        size = chance.randrange((here / name).stat().st_size)
        with pytest.raises((InputError, OSError)) as refused, files_of_at_most(size):
            main()
        sentence = errors._sentence(refused.value)
        assert sentence.startswith("error: ") and re.search(r"make room|is the disk full", sentence)
        assert not list(here.rglob("*.tmp"))
    main()


# --- What users bring ------------------------------------------------------------------------------------------------

PICTURES = {
    "baseline.jpg": encoded(photo(1, (75, 50)), "JPEG"),
    "progressive.jpg": encoded(photo(1, (75, 50)), "JPEG", progressive=True),
    "a.png": encoded(photo(1, (75, 50)), "PNG"),
    "a.gif": encoded(photo(1, (75, 50)), "GIF"),
    "a.webp": encoded(photo(1, (75, 50)), "WEBP"),
    "a.tif": encoded(photo(1, (75, 50)), "TIFF"),
    "a.bmp": encoded(photo(1, (75, 50)), "BMP"),
}


def read_or_refused(read, message_of):
    """Whether ``read`` is refused; fails unless that is in one sentence which begins with ``message_of``."""
    try:
        read()
    except InputError as error:
        assert str(error).startswith(message_of) and str(error).isprintable() and len(str(error)) < 1000
        return True
    return False


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_a_damaged_image_is_shown_or_refused(name):
    other = encoded(photo(2, (75, 50)), "JPEG")[:500] + PICTURES[name][500:]
    tried = damaged(PICTURES[name], other, 30 * SOAK, name)
    assert sum(read_or_refused(partial(decode, data, name), name) for _, data in tried) > 0


@pytest.mark.soak
def test_a_damaged_archive_is_listed_or_refused(tmp_path, monkeypatch):
    chosen = params.Dataset(
        name="caltech256", path=str(tmp_path / "a.tar"), clutter=True, groups=None, on_bad_image="fail"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused = 0
    # Most of an archive is images, which are another matter: the headers are damaged here.
    head, rest = ARCHIVE[:512], ARCHIVE[512:]
    for _, data in damaged(head, ARCHIVE[2048:2560], 30 * SOAK, "tar"):
        for archive in (data + rest, rest[:1024] + data + rest[1536:]):
            (tmp_path / "a.tar").write_bytes(archive)
            monkeypatch.setenv("HEADSTART_CALTECH256_MD5", hashlib.md5(archive).hexdigest())
            refused += read_or_refused(partial(caltech256.find, chosen, Index(None)), str(tmp_path / "a.tar"))
    assert refused > 10 * SOAK


@pytest.mark.soak
def test_damaged_weights_are_read_or_refused(tmp_path):
    for kind, whole in every_kind(tmp_path).items():
        for _, data in damaged(whole, whole[::-1], 30 * SOAK, kind):
            (tmp_path / "weights").write_bytes(data)
            read_or_refused(partial(read_weights, tmp_path / "weights"), str(tmp_path / "weights"))


@pytest.mark.soak
def test_damaged_weights_take_no_more_than_twice_their_size(tmp_path):
    path, large = tmp_path / "weights", {"a": np.arange(2**19, dtype=np.float32).reshape(2, -1), "b": np.ones(3, "f4")}
    for kind, whole in every_kind(tmp_path, large).items():
        # All but the numbers: what says how many there are.
        ends = whole[:1500] + whole[-1500:]
        for _, data in damaged(ends, ends[::-1], 12 * SOAK, kind):
            path.write_bytes(data[:1500] + whole[1500:-1500] + data[1500:])
            with memory_of_at_most(2 * len(whole)), seconds_of_at_most(20):
                read_or_refused(partial(read_weights, path), str(path))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<QQQ", 0x112, 0, 2**62) + (struct.pack("<IiIq", 0xF993FAC9, 0, 1, 0) + bytes(12)) * 2**17,
        struct.pack("<QQQQ", 0x112, 0, 0, 2**62) + bytes(2**22),
        b"\x80\x02" + b"}" * 2**22,
    ],
    ids=["empty arrays", "empty names", "empty dictionaries"],
)
def test_weights_that_would_fill_the_memory_are_refused(tmp_path, data):
    (tmp_path / "weights").write_bytes(data)
    with memory_of_at_most(2**25), pytest.raises(InputError, match="damaged or cut short"):
        read_weights(tmp_path / "weights")


@pytest.mark.soak
def test_damaged_params_are_valid_or_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = (ROOT / "params.yaml").read_bytes()
    # Without the remarks, in which damage does nothing.
    whole = b"".join(line.partition(b"#")[0].rstrip() + b"\n" for line in whole.splitlines() if line.strip())
    refused = 0
    for _, data in damaged(whole, whole[::-1], 60 * SOAK, "params"):
        (tmp_path / "params.yaml").write_bytes(data)
        refused += read_or_refused(params.load, "params.yaml")
    assert refused > 30 * SOAK
