"""A site-packages folder made up for a test, which a process of its own sees."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import ROOT

NUMPY = Path(np.__file__).parent


def python(*arguments):
    """Runs this Python, with the packages as they are installed; returns (exit code, stdout, stderr)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class Site:
    """A site-packages folder; what else is needed is in another one."""

    def __init__(self, folder):
        self.folder, self.others = folder / "site", folder / "others"
        for place in (self.folder, self.others):
            place.mkdir()
        for name in ("numpy", "numpy.libs", "joblib", "cloudpickle"):
            (self.others / name).symlink_to(NUMPY.with_name(name))

    def mxnet(self, text):
        """Puts a package ``mxnet`` there; ``text`` is its code."""
        self.file("mxnet/__init__.py", text)

    def file(self, path, text=""):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def run(self, before="", **environment):
        """Uses ``stages.backend.mx`` after the code ``before``; returns (exit code, stdout, stderr)."""
        path = os.pathsep.join(map(str, (ROOT, self.folder, self.others)))
        environment = {**os.environ, "PYTHONPATH": path, **environment}
        program = (
            f"{before}\nfrom stages.backend.mx import mx\nfrom stages.common.errors import run\n"
            "run(lambda: print('imported', mx.__name__))"
        )
        # -S: without the site-packages of this Python.
        done = subprocess.run([sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def sentence(self, before="", **environment):
        """The sentence with which the import fails."""
        code, printed, complaint = self.run(before, **environment)
        assert code == 1
        assert complaint.startswith("error: ") and complaint.count("\n") == 1, complaint
        return complaint[len("error: ") : -1]
