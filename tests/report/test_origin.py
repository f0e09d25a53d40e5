"""Where a report says it comes from."""

import re
import subprocess
from importlib.metadata import version

import pytest

from stages.backend.installed import mxnet_version
from stages.report.origin import VERSION, origin
from tests.dependencies import ROOT


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "stages/train.py"):
        (tmp_path / name).write_text("a: 1\n")

    def git(*arguments):
        name = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        return subprocess.run(["git", *name, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "start"]):
        git(*command)
    return git


def test_commit_date_and_versions(repository):
    found = origin()
    assert list(found) == ["commit", "date", "headstart", "MXNet", "DVC"]
    assert repository("rev-parse", "HEAD").startswith(found["commit"]) and len(found["commit"]) == 10
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", found["date"])
    assert (found["headstart"], found["MXNet"], found["DVC"]) == (VERSION, mxnet_version(), version("dvc"))


def test_what_was_changed_since_the_commit_is_named_where_it_makes_a_run(repository, tmp_path):
    commit = origin()["commit"]
    (tmp_path / "dvc.lock").write_text("a: 2\n")
    assert origin()["commit"] == commit
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert origin()["commit"] == f"{commit} and changes in params.yaml"
    (tmp_path / "stages/train.py").write_text("a: 2\n")
    assert origin()["commit"] == f"{commit} and changes in params.yaml, stages"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "commit" not in origin()


def test_the_version_is_the_changelogs():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == VERSION
