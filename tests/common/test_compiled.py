"""Machine code: kept by what a module says, made anew where it cannot be kept."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import numpy as np
from stages.classifier import updates
update = updates.update("sgd")
weights = np.ones((1, 2), np.float32)
update(weights, np.full((1, 2), 3, np.float32), (), np.full(1, 0.5, np.float32), np.zeros(1, np.float32))
print(weights.tolist(), sum(update.stats.cache_hits.values()))
"""


def run(folder, cache):
    """What the program prints, with the code in ``folder``."""
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_another_copy_of_the_code_finds_what_the_first_had_made(tmp_path):
    copies = [tmp_path / "one", tmp_path / "other"]
    for copy in copies:
        shutil.copytree(ROOT / "stages", copy / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    assert run(copies[0], tmp_path / "cache") == "[[-0.5, -0.5]] 0\n"
    # Numba 0.60 keeps it beside the module.
    assert run(copies[1], tmp_path / "cache") == f"[[-0.5, -0.5]] {int(sys.version_info >= (3, 10))}\n"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Numba 0.60 cannot be told where to keep things")
def test_where_nothing_can_be_kept_it_is_made_each_time():
    variables = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": "/proc/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[[-0.5, -0.5]] 0\n", "")
