"""The whole pipeline on 64-bit Arm, emulated: what is refused, and that it learns from the same features as here."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.project import clone
from stages.features.stored import records
from tests.conftest import BACKBONE
from tests.damage import long
from tests.project.emulated import Arm, lacking

# Of the largest number, as docs/cpus.md says of CPUs of different kinds.
ROUNDING = 3e-6


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    if reason := lacking():
        pytest.skip(reason)
    kept = os.environ.get("HEADSTART_ARM_ROOT")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("arm") / "root"
    yield Arm(folder)
    if not kept:
        # pytest would keep three of them, of 2 GB each.
        shutil.rmtree(folder)


def features(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    return np.concatenate([records.read(subset)[0] for subset in ("train", "valid", "test")])


@long
def test_the_pipeline_runs_on_arm_and_the_features_are_the_same_but_for_rounding(
    arm, small_project, small_data, weights_file, monkeypatch
):
    here = small_project("x86")
    here.set(featurize={"dtype": "float32"}, audit={"enabled": True}, runtime={"workers": 2})
    here.repro()

    place = arm.root / "root/headstart-test"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(small_data, place / "photos")
    shutil.copy(weights_file, place)
    there = clone(place / "project")
    there.set(
        dataset={"name": "folder", "path": "/root/headstart-test/photos"},
        backbone={"name": BACKBONE, "weights": "file", "path": f"/root/headstart-test/{weights_file.name}"},
        train={"epochs": 3, "lr": 0.01},
        featurize={"dtype": "float32"},
        runtime={"workers": 2},
    )
    # Where a root is kept, the packages are in it since the first time.
    if not list(arm.root.glob("usr/lib/*/liblapacke.so.3")):
        said = arm.run(there.folder, "make", "repro", code=2)
        assert "this machine lacks libopenblas.so.0 and liblapacke.so.3: install both" in said
        assert not (there.folder / ".venv").exists()
        arm.run(there.folder, "apt-get", "update")
        arm.run(there.folder, "apt-get", "install", "-y", "--no-install-recommends", "libopenblas0", "liblapacke")
    arm.run(there.folder, "make", "repro", HEADSTART_CACHE="off")

    assert json.loads((there.folder / "data/features/features.json").read_text())["cpu"] == "aarch64"
    assert there.featurized() == (24, 24)
    assert there.metrics("test")["images"] == 6
    assert (there.folder / "metrics/report.html").exists()
    ours, theirs = features(here, monkeypatch), features(there, monkeypatch)
    assert abs(ours - theirs).max() <= ROUNDING * abs(ours).max()
    assert abs(here.metrics("test")["loss"] - there.metrics("test")["loss"]) < 1e-3

    for precision, needed in (("bfloat16", "AVX-512"), ("int8", "VNNI")):
        there.set(featurize={"precision": precision})
        said = arm.run(there.folder, ".venv/bin/python", "-m", "stages.featurize", code=1)
        assert said.startswith(f"error: featurize.precision: {precision} needs {needed}, and the CPU of ")
        assert said.endswith(" is aarch64: set it to float32\n")
