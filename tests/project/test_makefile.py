"""`make setup` says in one sentence what it cannot do; what it can do, every other test stands on."""

import os
import re
import shutil
import subprocess

import pytest

from tests.conftest import ROOT

FILES = ["Makefile", "constraints.txt", *(path.name for path in ROOT.glob("requirements*.txt"))]


@pytest.fixture
def setup(tmp_path):
    """A function that runs `make setup` with arguments in an empty place; programs in ``bin`` come first."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "bin").mkdir()

    def run(*arguments):
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        return subprocess.run(
            ["make", "setup", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def save_program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_another_kind_of_machine_is_refused(setup, tmp_path):
    save_program(tmp_path / "bin" / "uname", "echo Darwin arm64")
    done = setup()
    assert done.returncode != 0
    assert "runs on Linux on x86-64 and 64-bit Arm, and this is Darwin arm64: " in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.fixture
def arm(tmp_path):
    """An Arm machine, with an NVIDIA driver, whose Python says that it lacks a library."""
    save_program(tmp_path / "bin" / "uname", 'case "$1$2" in -m) echo aarch64;; *) echo Linux aarch64;; esac')
    save_program(tmp_path / "bin" / "nvidia-smi", "echo 9.0")
    save_program(tmp_path / "bin" / "python", 'case "$2" in *.libraries) echo "error: it lacks one" >&2; exit 1;; esac')
    return f"PYTHON={tmp_path / 'bin' / 'python'}"


def test_an_arm_machine_without_the_libraries_is_told_before_anything_is_downloaded(setup, tmp_path, arm):
    done = setup(arm)
    assert done.returncode != 0
    assert done.stderr.startswith("error: it lacks one\n")
    assert not (tmp_path / ".venv").exists()


def test_there_is_no_gpu_build_for_arm(setup, tmp_path, arm):
    done = setup(arm, "GPU=yes")
    assert done.returncode != 0
    assert "no GPU build for 64-bit Arm: use the CPU with make setup GPU=no" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_without_a_suitable_python(setup, tmp_path):
    done = setup("PYTHON=/bin/false no-such-python")
    assert done.returncode != 0
    assert "needs Python 3.9, 3.10, 3.11 or 3.12" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_gpu_too_new_is_refused_before_anything_is_downloaded(setup, tmp_path):
    save_program(tmp_path / "bin" / "uname", "echo Linux x86_64")
    save_program(tmp_path / "bin" / "nvidia-smi", 'case "$*" in -L) echo GPU 0;; *) printf "8.6\\n9.0\\n";; esac')
    done = setup()
    assert done.returncode != 0
    assert "compute capability 9.0 is too new" in done.stderr
    assert "GPU=no" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_every_requirement_has_its_reason_and_no_address():
    for name in FILES[1:]:
        for line in (ROOT / name).read_text().splitlines():
            assert not re.search(r"https?://|file:|git\+", line)
            if name != "constraints.txt" and line and not line.startswith(("#", "-")):
                assert re.search(r"  *# \w.+", line.replace("# …", "# and")), f"{name}: {line}"
