"""Importing MXNet: as it is installed, not installed, or not fitting. What of the system it needs: test_libraries."""

import sys

import joblib
import numpy as np
import pytest

from tests.backend.sites import python


def test_mxnet_gets_the_physical_cores_unless_told_otherwise(site):
    site.mxnet("import os\nprint(os.environ['OMP_NUM_THREADS'])")
    cores = joblib.cpu_count(only_physical_cores=True)
    assert site.run("import os\nos.environ.pop('OMP_NUM_THREADS', None)") == (0, f"{cores}\nimported mxnet\n", "")
    assert site.run(OMP_NUM_THREADS="3") == (0, "3\nimported mxnet\n", "")


def test_importing_the_module_does_nothing(site):
    site.mxnet("raise SystemExit('MXNet is imported')")
    program = "import os, numpy\nbefore = dict(os.environ)\nimport stages.backend.mx\n"
    assert (
        site.run(f"{program}assert before == dict(os.environ) and not hasattr(numpy, 'bool')\nraise SystemExit")[0] == 0
    )


# --- As it is installed ----------------------------------------------------------------------------------------------


def test_importing_prints_nothing_whatever_python_warns_of():
    assert python("-W", "always", "-c", "from stages.backend.mx import mx; mx.nd.ones(2).asnumpy()") == (0, "", "")


def test_run_as_a_program_it_says_what_is_there():
    from stages.backend.mx import mx

    gpus = mx.context.num_gpus()
    expected = f"MXNet 1.9.1, {gpus} GPU{'s' * (gpus != 1)}, numpy {np.__version__}\n"
    assert python("-m", "stages.backend.mx") == (0, expected, "")


def test_what_mxnet_can_do_without_is_not_imported_and_can_be_later():
    program = """
import importlib.util, sys
from stages.backend.mx import mx
mx.nd.ones(2)
print({"scipy", "sklearn"} & set(sys.modules))
print(all(importlib.util.find_spec(name) for name in ("scipy", "sklearn")))
"""
    assert python("-c", program) == (0, "set()\nTrue\n", "")


# --- Not installed, or not fitting -----------------------------------------------------------------------------------

NOT_INSTALLED = f"MXNet is not installed for {sys.executable}: run `make setup`, then `source .venv/bin/activate`"


def test_without_mxnet_it_says_how_to_install_it(site):
    assert site.sentence() == NOT_INSTALLED


def test_what_an_uninstalled_mxnet_leaves_behind_is_no_mxnet(site):
    site.file("mxnet/libgomp.so.1")
    assert site.sentence() == NOT_INSTALLED


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("AttributeError", "`np.PZERO` was removed in the NumPy 2.0 release"),
        ("ImportError", "cannot import name 'x' from 'numpy'"),
        ("ModuleNotFoundError", "No module named 'distutils'"),
    ],
)
def test_packages_that_do_not_fit_are_one_sentence_with_the_reason(site, kind, reason):
    site.mxnet(f"raise {kind}({reason!r})")
    assert site.sentence() == (
        f"MXNet does not work with the packages installed for {sys.executable} ({reason}): "
        "it needs the versions in constraints.txt; run `make setup`"
    )


def test_numpys_old_name_is_there_while_mxnet_is_imported_and_later(site):
    site.mxnet("import numpy\nassert numpy.bool is numpy.bool_")
    assert site.run() == (0, "imported mxnet\n", "")


def test_what_mxnet_warns_of_while_it_is_imported_is_not_shown(site):
    site.mxnet("import warnings\nwarnings.warn('deprecated since 2018')")
    assert site.run() == (0, "imported mxnet\n", "")
