"""Ctrl-C, and the end of the process that drives the others, at any moment of a stage."""

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages import featurize, images, train
from tests.conftest import ROOT
from tests.damage import SOAK

pytestmark = pytest.mark.xdist_group("trained")

OUTPUTS = ("data/manifest.tsv", "data/features/train.rec", "data/features/test.rec", "data/model/head.params")


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    shutil.copytree(trained, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def started(stage, cache):
    """The stage as a process whose imports have begun: before that, what an interruption prints is Python's."""
    process = subprocess.Popen(
        [sys.executable, "-m", stage.__name__],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell that runs the tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for wanted in (True, False):
        while process.poll() is None and catches_interrupts(process.pid) is not wanted:
            time.sleep(0.001)
    return process


def catches_interrupts(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.soak
def test_whenever_it_is_broken_off_nothing_is_left_running_and_little_is_said(project, tmp_path):
    before = {name: (project / name).read_bytes() for name in OUTPUTS}
    chance = random.Random(0)
    ways = itertools.cycle(itertools.product((featurize, images, train), (signal.SIGINT, signal.SIGKILL)))
    for (stage, how), number in zip(ways, range(2 * SOAK)):
        process = started(stage, tmp_path / f"cache{number}")
        time.sleep(chance.uniform(0, 3))
        workers = []
        # It may have ended by itself.
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            workers = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
        _, said = process.communicate(timeout=30)
        assert not psutil.wait_procs(workers, timeout=30)[1]
        assert b"Traceback" not in said and b"rror" not in said, said
    for stage in (images, featurize, train):
        stage.main()
    assert {name: (project / name).read_bytes() for name in OUTPUTS} == before
