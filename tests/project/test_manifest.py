"""A change costs what it changed: which images are opened, by the commands a user types, and what needs none."""

import json
import time

import pytest

from bench.pictures import photo
from bench.project import Project
from stages.backend.mx import mx

pytestmark = pytest.mark.xdist_group("manifest")

# In nothing less a file is sure not to change again within a tick of its file system's clock.
SETTLED = 3.5

# Python imports it wherever it starts, here in every process that DVC starts.
SITECUSTOMIZE = """
import os, sys

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(os.environ["WATCHED"] + "/"):
            stage = os.path.basename(sys.argv[0])
            file = os.open(os.environ["WATCHED_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, f"{stage}\\t{os.path.relpath(path, os.environ['WATCHED'])}\\n".encode())
            os.close(file)

sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def project(small_project):
    """A project that has run once; every stage of it, wherever it runs, notes the photos that it opens."""
    project = small_project("manifest")
    place = project.folder.parent
    (place / "hook").mkdir()
    (place / "hook/sitecustomize.py").write_text(SITECUSTOMIZE)
    project.environment.update(
        PYTHONPATH=str(place / "hook"), WATCHED=str(project.photos.resolve()), WATCHED_LOG=str(place / "log")
    )
    time.sleep(SETTLED)
    project.repro()
    commit(project, "run")
    return project


def ran(printed):
    """The stages that ran, by what DVC printed."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def commit(project, message):
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", message)


def opened(project):
    """The photos that were opened since this was asked last: by evaluate, and by any other stage."""
    log = project.folder.parent / "log"
    lines = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    shown = {path for stage, path in lines if stage == "evaluate.py"}
    return shown, {path for stage, path in lines if stage != "evaluate.py"}


def listed(project, *subsets):
    """The paths of the images in these subsets."""
    lists = [(project.folder / f"data/split/{subset}.lst").read_text() for subset in subsets]
    return {line.split("\t")[2] for text in lists for line in text.splitlines()}


def experiments(project):
    """{name: metrics of featurize} of the experiments on the current commit."""
    found = json.loads(project.run("dvc", "exp", "show", "--json"))[-1]["experiments"] or []
    metrics = {e["name"]: e["revs"][0]["data"]["metrics"] for e in found}
    return {name: by_file["metrics/featurize.json"]["data"] for name, by_file in metrics.items()}


def test_the_first_run_opens_every_image(project):
    shown, others = opened(project)
    assert others == listed(project, "train", "valid", "test")
    assert len(others) == 24
    # The report has pictures, of the test images.
    assert shown == listed(project, "test")


def test_one_more_image_opens_that_image_alone(project):
    photo(99, (80, 80)).save(project.photos / "cat" / "one more.jpg")
    time.sleep(SETTLED)
    assert project.repro() == ["images", "split", "featurize", "train", "evaluate"]
    shown, others = opened(project)
    assert others == {"cat/one more.jpg"}
    assert shown <= listed(project, "test")
    assert project.metrics("featurize")["forward_passes"] == 1


def test_a_learning_rate_opens_none(project):
    project.set(train={"lr": 0.02})
    assert project.repro() == ["images", "train", "evaluate"]
    shown, others = opened(project)
    assert others == set() and shown <= listed(project, "test")


def test_experiments_in_other_workspaces_open_none(project):
    commit(project, "one more, learning rate")
    project.run("dvc", "exp", "run", "--temp", "-n", "temp", "-S", "train.lr=0.03")
    # Another split, so that featurize has to run.
    project.run("dvc", "exp", "run", "--queue", "-n", "queued", "-S", "train.lr=0.04", "-S", "split.seed=11")
    status = project.run_queue()
    assert status.count("Success") == 1, status
    found = experiments(project)
    assert set(found) == {"temp", "queued"}
    assert found["temp"] == project.metrics("featurize")
    assert (found["queued"]["images"], found["queued"]["forward_passes"]) == (25, 0)
    shown, others = opened(project)
    assert others == set() and shown
    assert project.run("git", "status", "--short") == ""


def test_an_image_removed_again_comes_back_from_the_run_cache(project):
    there, away = project.photos / "cat/one more.jpg", project.folder.parent / "one more.jpg"
    for source, target, rate, count in ((there, away, 0.01, 24), (away, there, 0.02, 25)):
        source.rename(target)
        project.set(train={"lr": rate})
        printed = project.run("dvc", "repro")
        assert ran(printed) == ["images"]
        for stage in ("split", "featurize", "train", "evaluate"):
            assert f"Stage '{stage}' is cached - skipping run, checking out outputs" in printed
        assert project.metrics("featurize")["images"] == count
    assert project.run("git", "status", "--short") == ""


def by_digest(project):
    """{beginning of the image's digest: its feature} from the records."""
    features = {}
    for subset in ("train", "valid", "test"):
        file = mx.recordio.MXRecordIO(str(project.folder / f"data/features/{subset}.rec"), "r")
        while (record := file.read()) is not None:
            header, feature = mx.recordio.unpack(record)
            features[header.id2] = feature
        file.close()
    return features


def test_two_experiments_at_once_on_cold_caches_are_right(project, tmp_path):
    expected, manifest = by_digest(project), project.bytes("data/manifest.tsv")
    opened(project)
    project.environment["HEADSTART_CACHE"] = str(tmp_path / "cold")
    try:
        for number in (21, 22):
            project.run("dvc", "exp", "run", "--queue", "-n", f"cold{number}", "-S", f"split.seed={number}")
        assert project.run_queue().count("Success") == 2 + 1
    finally:
        project.environment["HEADSTART_CACHE"] = str(project.folder.parent / "cache")
    # Each image was looked at by the one or by both.
    assert len(opened(project)[1]) == 25
    found = [experiments(project)[name]["forward_passes"] for name in ("cold21", "cold22")]
    assert max(found) <= 25 <= sum(found)
    for name in ("cold21", "cold22"):
        project.run("dvc", "exp", "apply", name)
        assert project.bytes("data/manifest.tsv") == manifest
        assert by_digest(project) == expected
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q")


# --- A teammate without the images -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mate(project, tmp_path_factory):
    """A clone of the project in which `dvc pull` was run, with caches of its own, on a machine without the photos."""
    place = tmp_path_factory.mktemp("mate")
    project.run("dvc", "remote", "add", "--default", "store", str(place / "store"))
    project.run("dvc", "push", "-q")
    commit(project, "the team's store")
    project.run("git", "clone", "-q", ".", str(place / "project"))
    mate = Project(place / "project")
    mate.run("git", "config", "user.email", "mate@example.com")
    mate.run("git", "config", "user.name", "mate")
    mate.run("dvc", "pull", "-q")
    away = project.photos.rename(project.photos.with_name("away"))
    yield mate
    away.rename(project.photos)


def test_a_teammate_without_the_images_has_nothing_to_run(mate, project):
    printed = mate.run("dvc", "repro")
    assert f"{project.photos} is not there: going on with what data/manifest.tsv recorded of it" in printed
    assert ran(printed) == ["images"]
    assert mate.run("git", "status", "--short") == ""
    assert mate.features() == project.features()


def test_a_teammate_trains_in_the_workspace_and_in_the_queue(mate):
    printed = mate.run("dvc", "exp", "run", "-n", "here", "-S", "train.lr=0.05")
    assert ran(printed) == ["images", "train", "evaluate"]
    page = (mate.folder / "metrics/report.html").read_text()
    assert page.count("the image is not on this machine") == mate.metrics("test")["images"]
    mate.run("git", "checkout", "-q", ".")
    mate.run("dvc", "exp", "run", "--queue", "-n", "queued", "-S", "train.lr=0.06")
    assert mate.run_queue().count("Success") == 1
    assert set(experiments(mate)) == {"here", "queued"}


def test_a_wrong_path_is_an_error_still(mate):
    mate.set(dataset={"path": "/nowhere/photos"})
    printed = mate.run("dvc", "repro", code=255)
    assert "error: dataset.path: there is no folder /nowhere/photos" in printed
    mate.run("git", "checkout", "-q", ".")
