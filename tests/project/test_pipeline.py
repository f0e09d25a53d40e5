"""The whole pipeline by the commands a user types, on a small folder of images and a small backbone."""

import contextlib
import os
import re
import signal
import subprocess
import time

import psutil
import pytest

from bench.pictures import photo, save_folder
from stages.backend.mx import mx

ALL = ["images", "weights", "split", "featurize", "train", "audit", "evaluate"]
# What runs when features have changed, in the order of the alphabet.
LATER = ["audit", "evaluate", "featurize", "images"]

pytestmark = pytest.mark.xdist_group("pipeline")


@pytest.fixture(scope="module")
def project(small_project):
    """A project that has run once."""
    project = small_project()
    assert sorted(project.repro()) == sorted(ALL)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "run")
    return project


@pytest.fixture
def change(project):
    """The project, put back to how it was after the test."""
    yield project
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q", "--force")


def test_a_second_run_looks_and_does_nothing(project):
    assert project.repro() == ["images"]


def test_there_is_a_record_for_every_list_row_in_order(project):
    for subset in ("train", "valid", "test"):
        rows = [line.split("\t") for line in (project.folder / f"data/split/{subset}.lst").read_text().splitlines()]
        stem = str(project.folder / f"data/features/{subset}")
        records = mx.recordio.MXIndexedRecordIO(stem + ".idx", stem + ".rec", "r")
        assert records.keys == [int(index) for index, _, _ in rows]
        headers = [mx.recordio.unpack(records.read())[0] for _ in rows]
        assert [(h.id, h.label) for h in headers] == [(int(index), float(label)) for index, label, _ in rows]
        assert records.read() is None


def test_the_report_and_the_plots_are_of_this_run(project):
    page = (project.folder / "metrics/report.html").read_text()
    assert f"<dd>{project.photos}</dd>" in page
    assert {"cat", "dög", "red panda"} <= set(re.findall("<tr><td>(.*?)</td>", page))
    assert project.run("git", "check-ignore", "metrics/report.html", "metrics/classes.csv")
    for command in (["show"], ["diff", "HEAD"]):
        project.run("dvc", "plots", *command, "-o", str(project.folder.parent / "plots"))
        plots = (project.folder.parent / "plots/index.html").read_text()
        for title in (
            "Loss",
            "Top-1 accuracy",
            "Seconds per epoch",
            "Confusion matrix (test)",
            "Accuracy by class (test)",
        ):
            assert f'"{title}"' in plots


@pytest.mark.parametrize(
    ("values", "stages"),
    [
        (
            {"train": {"lr": 0.02, "epochs": 2, "optimizer": "sgd", "dropout": 0.1, "seed": 5}},
            ["images", "train", "evaluate"],
        ),
        ({"split": {"seed": 1}}, [*LATER, "split", "train"]),
        ({"featurize": {"dtype": "float32", "resize": "squash"}}, [*LATER, "train"]),
        (
            {"backbone": {"name": "efficientnet_lite0", "weights": "pretrained", "path": "data/pretrained"}},
            [*LATER, "train", "weights"],
        ),
        ({"runtime": {"workers": 2, "batch_size": 3, "devices": "cpu", "cache": "off", "cache_gb": 1}}, ["images"]),
    ],
    ids=["train", "split", "featurize", "backbone", "runtime"],
)
def test_a_changed_parameter_reruns_what_it_affects(change, values, stages):
    change.set(**values)
    assert sorted(change.repro()) == sorted(stages)


def test_another_data_set_reruns_all_but_weights(change, tmp_path):
    save_folder(tmp_path, ["left", "right"], per_class=4, size=(64, 64))
    change.set(dataset={"path": str(tmp_path)})
    assert sorted(change.repro()) == [*LATER, "split", "train"]


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("classifier/scores", ["audit", "images", "train"]),
        ("dataset/lists", ["audit", "featurize", "images", "split", "train"]),
    ],
)
def test_changed_code_reruns_the_stages_that_use_it(change, module, stages):
    with open(change.folder / "stages" / f"{module}.py", "r+") as file:
        file.seek(0, os.SEEK_END)
        file.write("# a remark\n")
    # What they wrote is the same as before, so nothing else has to run, but for what reads how long they took.
    assert sorted(stage for stage in change.repro() if stage != "evaluate") == stages
    assert change.repro() == ["images"]


def test_an_added_image_reruns_all_but_weights(change):
    photo(seed=99, size=(80, 80)).save(change.photos / "cat" / "new one.jpg")
    stages = change.repro()
    assert sorted(stages) == [*LATER, "split", "train"]
    assert change.featurized() == (25, 1)
    (change.photos / "cat" / "new one.jpg").unlink()


def test_a_bad_image_stops_the_run_and_is_named(change):
    bad = change.photos / "cat" / "broken.jpg"
    bad.write_bytes(b"")
    printed = change.run("dvc", "repro", code=255)
    assert "broken.jpg is empty" in printed
    assert "Traceback" not in printed

    change.set(dataset={"on_bad_image": "skip"})
    printed = change.run("dvc", "repro")
    assert "1 skipped" in printed
    assert "broken.jpg" in printed
    bad.unlink()


def test_wrong_params_stop_the_run_with_one_sentence(change):
    change.set(train={"epochs": 0})
    printed = change.run("dvc", "repro", code=255)
    assert "error: params.yaml: train.epochs: must be greater than or equal to 1 (got 0)" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(("workers", "batch_size"), [(2, 5), (3, 1)])
def test_neither_workers_nor_batch_size_change_a_byte(change, workers, batch_size):
    before = change.features()
    change.set(runtime={"workers": workers, "batch_size": batch_size, "cache": "off"})
    change.run("python", "-m", "stages.featurize", HEADSTART_CACHE="off")
    assert change.featurized() == (24, 24)
    assert change.features() == before


def test_training_again_gives_the_same_bytes(change):
    before = change.bytes("data/model/*")
    change.run("dvc", "repro", "-f", "-s", "train")
    assert change.bytes("data/model/*") == before


def worker(driver):
    """Whether the process ``driver`` has started a worker; it has other children for moments."""
    for child in psutil.Process(driver).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("spawn_main" in word for word in child.cmdline()):
                return True
    return False


def test_interrupting_featurize_leaves_the_old_features(change):
    before = change.features()
    process = subprocess.Popen(
        ["python", "-m", "stages.featurize"],
        cwd=change.folder,
        env={**change.environment, "HEADSTART_CACHE": "off"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # Workers take a while to get ready.
    while not worker(process.pid):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "interrupted" in printed
    assert "Traceback" not in printed
    assert change.features() == before
    assert not list((change.folder / "data").glob("**/*.tmp"))
