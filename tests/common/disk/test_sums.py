"""Digests beside files: what is not as it was written is told, in one sentence."""

import os
import subprocess
from pathlib import Path

import pytest

from stages.common.disk import sums
from stages.common.errors import InputError

FILES = [Path("data/a.rec"), Path("data/a.idx")]


@pytest.fixture(autouse=True)
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for number, path in enumerate(FILES):
        path.write_bytes(b"some bytes" * number)
    sums.write(FILES)


def refusal():
    with pytest.raises(InputError) as refused:
        sums.check(FILES, "run it again")
    return str(refused.value)


def test_files_as_they_were_written_pass():
    sums.check(FILES)


def test_sha256sum_checks_them_too():
    done = subprocess.run(["sha256sum", "-c", "a.sha256"], cwd="data", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a.rec: OK\na.idx: OK\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_changed_file_is_named(path):
    path.write_bytes(path.read_bytes() + b"\n")
    assert refusal() == f"{path} is damaged or of another run (its SHA-256 is not that in a.sha256): run it again"


@pytest.mark.parametrize("path", [*FILES, Path("data/a.sha256")], ids=lambda path: path.name)
def test_a_file_that_is_missing_or_none_is_named(path):
    path.unlink()
    assert refusal() == f"{path} is missing: run it again"
    os.mkfifo(path)
    assert refusal() == f"{path} cannot be read (not a regular file)"
    path.unlink()
    path.mkdir()
    assert refusal() == f"{path} cannot be read (Is a directory)"


@pytest.mark.parametrize("of", [FILES[:1], FILES[::-1], []], ids=len)
def test_digests_of_other_files_are_refused(of):
    text = Path("data/a.sha256").read_text().splitlines(keepends=True)
    Path("data/a.sha256").write_text("".join(text[FILES.index(path)] for path in of))
    assert " is damaged or of another run" in refusal()


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xff\xfe" * 50, b"0" * 10**6, bytes(132)], ids=len)
def test_damaged_digests_are_refused(data):
    Path("data/a.sha256").write_bytes(data)
    assert " is damaged or of another run" in refusal()
