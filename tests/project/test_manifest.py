"""A change costs what it changed: which images are opened, by the commands a user types, and what needs none."""

import json
import shutil

import pytest

from bench.pictures import photo
from bench.project import Project
from stages.backend.mx import mx
from tests.damage import long
from tests.project.watching import listed, opened, settle

pytestmark = pytest.mark.xdist_group("watched")


@pytest.fixture(scope="module")
def project(watched):
    return watched


def ran(printed):
    """The stages that ran, by what DVC printed."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def commit(project, message):
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", message)


def experiments(project):
    """{name: metrics/timing.json} of the experiments on the current commit."""
    found = json.loads(project.run("dvc", "exp", "show", "--json"))[-1]["experiments"] or []
    metrics = {e["name"]: e["revs"][0]["data"]["metrics"] for e in found}
    return {name: by_file["metrics/timing.json"]["data"] for name, by_file in metrics.items()}


def test_one_more_image_opens_that_image_alone(project):
    photo(99, (80, 80)).save(project.photos / "cat" / "one more.jpg")
    settle()
    assert sorted(project.repro()) == ["audit", "evaluate", "featurize", "images", "split", "train"]
    shown, others = opened(project)
    assert others == {"cat/one more.jpg"}
    assert shown <= listed(project, "test")
    assert project.featurized() == (25, 1)


def test_a_learning_rate_opens_none(project):
    project.set(train={"lr": 0.02})
    assert project.repro() == ["images", "train", "evaluate"]
    shown, others = opened(project)
    assert others == set() and shown <= listed(project, "test")


def test_an_experiment_in_another_workspace_opens_none(project):
    commit(project, "one more, learning rate")
    # Another split, so that featurize has to run. A sweep in the queue is in test_experiments.py.
    project.run("dvc", "exp", "run", "--temp", "-n", "temp", "-S", "train.lr=0.03", "-S", "split.seed=11")
    found = experiments(project)["temp"]
    assert (found["reused"], found["forward_passes"]) == (25, 0)
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
        for stage in ("split", "featurize", "train", "audit", "evaluate"):
            assert f"Stage '{stage}' is cached - skipping run, checking out outputs" in printed
        assert project.featurized()[0] == count
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


@long
def test_two_experiments_at_once_on_cold_caches_are_right(project, tmp_path):
    expected, manifest = by_digest(project), project.bytes("data/manifest.tsv")
    done = project.run("dvc", "queue", "status").count("Success")
    opened(project)
    project.environment["HEADSTART_CACHE"] = str(tmp_path / "cold")
    try:
        for number in (21, 22):
            project.run("dvc", "exp", "run", "--queue", "-n", f"cold{number}", "-S", f"split.seed={number}")
        assert project.run_queue().count("Success") == done + 2
    finally:
        project.environment["HEADSTART_CACHE"] = str(project.folder.parent / "cache")
    # Each image was looked at by the one or by both.
    assert len(opened(project)[1]) == 25
    found = experiments(project)
    passes = [found[name]["forward_passes"] for name in ("cold21", "cold22")]
    assert max(passes) <= 25 <= sum(passes)
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


def test_a_teammate_who_has_the_images_and_one_more_computes_that_one(mate, project):
    photos = mate.folder.parent / "photos"
    shutil.copytree(project.photos.with_name("away"), photos)
    photo(98, (80, 80)).save(photos / "cat" / "the teammate's.jpg")
    mate.set(dataset={"path": str(photos)})
    printed = mate.run("python", "-m", "stages.cache", "seed")
    assert printed == "25 features in data/features, 25 of them new in the feature cache\n"
    mate.repro()
    assert mate.featurized() == (26, 1)
    mate.run("git", "checkout", "-q", ".")
