"""No image goes through the network twice, by the commands a user types."""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time

import psutil
import pytest

from bench.pictures import photo, save_folder
from bench.project import Project
from stages.common.disk import sums
from tests.damage import SOAK, long

pytestmark = pytest.mark.xdist_group("reuse")


@pytest.fixture(scope="module")
def project(small_project):
    project = small_project("reuse")
    project.set(audit={"enabled": False})
    project.repro()
    assert project.featurized() == (24, 24)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "run")
    return project


def passes(project):
    """Runs the pipeline up to featurize; returns how many images it was for and how many went through the network."""
    # DVC's run cache would spare us featurize altogether where it knows the inputs: not what is tested here.
    project.run("dvc", "repro", "--no-run-cache", "featurize")
    return project.featurized()


def test_another_split_computes_nothing(project):
    project.set(split={"seed": 3, "train": 0.4, "valid": 0.3, "test": 0.3})
    assert passes(project) == (24, 0)


def test_fewer_training_images_compute_nothing(project):
    project.set(split={"train_per_class": 2})
    count, computed = passes(project)
    assert count < 24 and computed == 0
    project.set(split={"train_per_class": None})


def test_other_names_and_another_dtype_of_the_records_compute_nothing(project):
    (project.photos / "cat").rename(project.photos / "lion")
    (project.photos / "lion" / "000.jpg").rename(project.photos / "lion" / "a lion.jpg")
    project.set(featurize={"dtype": "float32"})
    assert passes(project) == (24, 0)


def test_only_new_and_changed_images_are_computed(project):
    for seed in (50, 51, 52):
        photo(seed, (80, 60)).save(project.photos / "lion" / f"new {seed}.png")
    assert passes(project) == (27, 3)
    # One changed, one twice under two names.
    photo(53, (80, 60)).save(project.photos / "lion" / "new 50.png")
    shutil.copy(project.photos / "lion" / "new 51.png", project.photos / "lion" / "copy of 51.png")
    assert passes(project) == (28, 1)
    for path in (project.photos / "lion").glob("*new*"):
        path.unlink()
    assert passes(project) == (25, 0)


def test_the_same_new_photo_under_two_names_is_computed_once(project):
    for name in ("one", "two"):
        photo(60, (80, 60)).save(project.photos / "lion" / f"{name}.png")
    assert passes(project) == (27, 1)


def test_another_clone_computes_nothing(project, tmp_path):
    project.run("git", "commit", "-qam", "changes")
    project.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.environment = project.environment
    assert passes(clone) == (27, 0)
    assert clone.features() == project.features()


def test_a_weights_file_with_one_bit_changed_computes_everything(project, weights_file, tmp_path):
    data = bytearray(weights_file.read_bytes())
    # A low bit of a number in the middle of the file.
    data[len(data) // 2 // 4 * 4] ^= 1
    (tmp_path / "other.params").write_bytes(data)
    project.set(backbone={"path": str(tmp_path / "other.params")})
    assert passes(project) == (27, 26)
    project.set(backbone={"path": str(weights_file)})
    assert passes(project) == (27, 0)


@pytest.mark.parametrize("values", [{"featurize": {"resize": "squash"}}], ids=["resize"])
def test_other_preprocessing_computes_everything(project, values):
    project.set(**values)
    assert passes(project) == (27, 26)
    project.run("git", "checkout", "-q", "params.yaml")
    assert passes(project) == (27, 0)


def test_the_bytes_are_the_same_without_with_a_cold_a_half_warm_and_a_warm_cache(project, tmp_path):
    wanted = project.features()

    def again(count, cache):
        project.run("python", "-m", "stages.featurize", HEADSTART_CACHE=cache)
        assert project.featurized()[1] == count
        assert project.features() == wanted

    again(26, "off")
    again(26, str(tmp_path / "cold"))
    again(0, str(tmp_path / "cold"))

    # Only the test images first.
    test, rest = (
        project.folder / "data/split/test.lst",
        [project.folder / f"data/split/{s}.lst" for s in ("train", "valid")],
    )
    kept = {path: path.read_bytes() for path in rest}
    for path in rest:
        path.write_bytes(test.read_bytes())
        sums.write([path])
    project.run("python", "-m", "stages.featurize", HEADSTART_CACHE=str(tmp_path / "half"))
    done = project.featurized()[1]
    assert 0 < done < 15
    for path in rest:
        path.write_bytes(kept[path])
        sums.write([path])
    again(26 - done, str(tmp_path / "half"))


@long
def test_killed_at_any_moment_it_goes_on_where_it_was(small_project):
    project = small_project("killed")
    save_folder(project.photos, ["cat", "dög", "red panda"], per_class=100, size=(96, 72))
    project.set(runtime={"workers": 2, "batch_size": 2}, dataset={"path": str(project.photos)})
    project.run("dvc", "repro", HEADSTART_CACHE="off")
    wanted = {**project.features(), **project.bytes("data/model/*"), **project.bytes("data/split/*")}
    _forget(project)

    moments, log = random.Random(0), project.folder.parent / "log"
    kills = kept = half_way = 0
    while kills < 2 * SOAK:
        with open(log, "w") as file:
            run = subprocess.Popen(
                ["dvc", "repro"],
                cwd=project.folder,
                env=project.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if kills % 2:
            # A moment while the network is at work.
            while run.poll() is None and cached(project) == kept:
                time.sleep(0.05)
            time.sleep(moments.uniform(0, 0.5))
        else:
            time.sleep(moments.uniform(0.3, 3))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            kills += 1
            _mend_dvc(project)
        elif run.returncode and "'./dvc.lock'" in log.read_text():
            # It was killed while it wrote that, and refuses to read it.
            (project.folder / "dvc.lock").unlink()
        else:
            assert run.returncode == 0, log.read_text()
            _forget(project)
            kept = 0
        # What was in the cache before is there still.
        assert cached(project) >= kept
        kept = cached(project)
        half_way += 0 < kept < 300
    assert half_way >= SOAK // 2 + 1

    shutil.rmtree(project.folder / "data" / "features", ignore_errors=True)
    shutil.rmtree(project.folder / ".dvc" / "cache", ignore_errors=True)
    project.run("dvc", "repro")
    assert project.featurized()[1] == 300 - kept
    assert {**project.features(), **project.bytes("data/model/*"), **project.bytes("data/split/*")} == wanted
    left = [path for place in ("data", "metrics") for path in (project.folder / place).rglob("*.tmp*")]
    assert left == []
    assert [p for p in psutil.process_iter() if _works_in(p, project.folder)] == []


def _mend_dvc(project):
    """Removes DVC's list of locks where it was killed while it wrote it, for it would refuse to run."""
    locks = project.folder / ".dvc/tmp/rwlock"
    try:
        json.loads(locks.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        locks.unlink()


def cached(project):
    """How many features the project's cache holds."""
    with contextlib.suppress(sqlite3.OperationalError):
        uri = f"file:{project.environment['HEADSTART_CACHE']}/features.db?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            return database.execute("SELECT COUNT(*) FROM features").fetchone()[0]
    return 0


def _forget(project):
    """Puts the project back to where nothing has run, with an empty cache."""
    places = [project.folder / "data" / name for name in ("split", "weights", "features", "model")]
    for place in [*places, project.folder / ".dvc" / "cache", project.environment["HEADSTART_CACHE"]]:
        shutil.rmtree(place, ignore_errors=True)
    for name in ("dvc.lock", "data/manifest.tsv", "data/classes.txt", "data/dataset.json"):
        (project.folder / name).unlink(missing_ok=True)


def _works_in(process, folder):
    try:
        return process.cwd() == str(folder)
    except psutil.Error:
        return False
