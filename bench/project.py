"""A clone of headstart to run the user's commands in, ``dvc`` and all."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional, Union

import platformdirs
import yaml

ROOT = Path(__file__).parent.parent
# Where machine code is kept: the same for all clones, as it takes some seconds to make.
MACHINE_CODE = os.environ.get("NUMBA_CACHE_DIR") or str(platformdirs.user_cache_path("numba"))

Contents = dict[str, bytes]  # of files, by their path in the project


def set_params(path: Path, **values: dict[str, Any]) -> None:
    """Changes the params.yaml at ``path``, which begins as the shipped one: ``set_params(path, train={"lr": 0.1})``."""
    params = yaml.safe_load((path if path.exists() else ROOT / "params.yaml").read_text())
    for section, settings in values.items():
        params[section].update(settings)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


class Project:
    """A clone of headstart in ``folder``, with the commands a user types; its caches lie beside it."""

    def __init__(self, folder: Union[str, Path]) -> None:
        self.folder = Path(folder)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HEADSTART_CACHE": str(self.folder.parent / "cache"),
            "XDG_CACHE_HOME": str(self.folder.parent / "user"),
            "NUMBA_CACHE_DIR": MACHINE_CODE,
        }
        # A user's Python keeps what it has compiled; without that a stage takes twice as long to start.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(self, *command: str, code: int = 0, input: Optional[str] = None, **environment: str) -> str:
        """Runs ``command`` in the project, with ``input`` to read; returns what it printed.

        Fails unless it exits with ``code``.
        """
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def repro(self, **environment: str) -> list[str]:
        """`dvc repro`; returns the names of the stages that ran."""
        printed = self.run("dvc", "repro", code=0, **environment)
        return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]

    def start_queue(self, queued: int, jobs: int) -> None:
        """`dvc queue start`; returns when the results of all that are ``queued`` are there.

        Fails if they are not after four minutes.
        """
        found = "git", "for-each-ref", "refs/exps/??/*/*"
        wanted = len(self.run(*found).splitlines()) + queued
        # Without a pipe, at whose end it would wait for the workers: DVC's do not always end when the queue is empty.
        self.run("bash", "-c", f"dvc queue start -j {jobs} > /dev/null 2>&1")
        deadline = time.monotonic() + 240
        # git answers at once; dvc takes the time from the experiments.
        while len(self.run(*found).splitlines()) < wanted:
            assert time.monotonic() < deadline, self.run("dvc", "queue", "status")
            time.sleep(0.2)

    def run_queue(self, jobs: int = 2) -> str:
        """`dvc queue start`; returns, when all is done, what `dvc queue status` says."""
        self.start_queue(len(re.findall("Queued", self.run("dvc", "queue", "status"))), jobs)
        deadline = time.monotonic() + 60
        while "Running" in (status := self.run("dvc", "queue", "status")) or "Queued" in status:
            assert time.monotonic() < deadline, status
            time.sleep(1)
        return status

    def set(self, **values: dict[str, Any]) -> None:
        """Changes params.yaml: ``set(train={"lr": 0.1})``."""
        set_params(self.folder / "params.yaml", **values)

    def metrics(self, name: str) -> dict[str, Any]:
        """What ``metrics/<name>.json`` says."""
        found: dict[str, Any] = json.loads((self.folder / "metrics" / f"{name}.json").read_text())
        return found

    def featurized(self) -> tuple[int, int]:
        """How many images the features are of, and how many of them went through the network in the last run."""
        work = json.loads((self.folder / "data/features/work.json").read_text())
        return work["forward_passes"] + work["reused"], work["forward_passes"]

    def bytes(self, pattern: str) -> Contents:
        """The bytes of all files that match ``pattern``."""
        return {
            str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.glob(pattern)) if p.is_file()
        }

    def features(self) -> Contents:
        """The bytes of the records."""
        return {**self.bytes("data/features/*.rec"), **self.bytes("data/features/*.idx")}


def clone(folder: Union[str, Path], source: Path = ROOT) -> Project:
    """A project in ``folder``, committed, as a fresh `git clone` of the working tree ``source`` would be."""
    folder = Path(folder)
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=source, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (source / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)
    project = Project(folder)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.email", "test@example.com")
    project.run("git", "config", "user.name", "test")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "start")
    return project
