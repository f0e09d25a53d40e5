"""The shape of the code: who may import whom, and how large anything may be. docs/architecture.md says why."""

import ast
import subprocess
import sys

import pytest

from tests.dependencies import ARCHITECTURE, FLOORS, ROOT, TABLE, closure, imported, modules, stages, table

MODULES = modules()
BENCH = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "bench").rglob("*.py"))
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}


def package(module):
    """The package of ``stages`` that a module is in; None for the stages and commands themselves."""
    parts = module.split("/")
    return parts[1] if len(parts) > 2 else None


def external(module):
    """The packages that ``module`` imports from elsewhere, anywhere in its source."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found - {"stages"}


def test_every_package_has_its_floor():
    assert {package(module) for module in MODULES} - {None} == set(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_lead_to_the_own_package_or_downward(module):
    own = package(module)
    for other in imported(module):
        its = package(other)
        assert its is not None, f"{module} imports the stage or command {other}"
        assert own is None or its == own or FLOOR[its] < FLOOR[own], f"{module} imports {other}"


def test_no_module_imports_itself_by_way_of_others():
    for module in MODULES:
        assert not any(module in closure(other) for other in imported(module)), module


def test_one_module_alone_imports_mxnet():
    assert [module for module in MODULES if "mxnet" in external(module)] == ["stages/backend/mx.py"]


@pytest.mark.parametrize("engine", [module for module in MODULES if package(module) == "engines"])
def test_engines_need_neither_mxnet_nor_params_nor_the_store(engine):
    used = {name for module in closure(engine) for name in external(module)}
    assert not used & {"mxnet", "pydantic", "yaml", "sqlite3"}


def test_a_worker_needs_neither_params_nor_the_store():
    used = {name for module in closure("stages/features/extract.py") for name in external(module)}
    assert not used & {"pydantic", "yaml", "sqlite3", "platformdirs", "ray", "dvclive"}


@pytest.mark.parametrize("stage", ["images", "split"])
def test_the_data_set_knows_nothing_of_networks_but_their_names(stage):
    known = {
        m for m in closure(f"stages/{stage}.py") if package(m) in ("backend", "backbones", "preprocessing", "inference")
    }
    assert known <= {"stages/backbones/catalogue.py"}


def test_evaluate_knows_nothing_of_how_features_are_computed():
    # But for the pixels, which the report shows.
    known = {
        module
        for module in closure("stages/evaluate.py")
        if package(module) in ("preprocessing", "inference", "engines")
    }
    assert known == {"stages/preprocessing/pixels.py"}
    assert "mxnet" not in {name for module in closure("stages/evaluate.py") for name in external(module)}


@pytest.mark.parametrize("stage", stages())
def test_a_stage_that_may_compute_nothing_starts_without_what_computes(stage):
    program = f"import sys, stages.{stage}; print({{'mxnet', 'numba'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("module", [*MODULES, *BENCH])
def test_modules_and_functions_fit_on_a_few_screens(module):
    text = (ROOT / module).read_text()
    assert text.count("\n") <= (120 if module[: -len(".py")].split("/")[1:] in [[stage] for stage in stages()] else 300)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{module}: {node.name}"


def test_the_table_of_what_runs_again_is_fresh():
    assert TABLE.search(ARCHITECTURE.read_text())[0] == table(), "run `python -m tests.dependencies`"
