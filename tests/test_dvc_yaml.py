"""dvc.yaml declares what the stages use: no more, no less."""

import ast

import pytest
import yaml

from stages import params
from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imported(module):
    """The modules of headstart that ``module`` imports anywhere in its source."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "stages":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("stages") for alias in node.names), (
                f"{module}: say `from stages import`"
            )
    return names


def closure(module):
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(imported(name))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_modules_imported(stage):
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")}
    # What else a module reads, such as a template, lies beside it under its name.
    assert declared == {
        f"stages/{path.name}" for name in closure(stage) for path in (ROOT / "stages").glob(f"{name}.*")
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_named_as_its_module(stage):
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"


def test_no_stage_depends_on_runtime():
    for stage in STAGES.values():
        assert not any(str(key).startswith("runtime") for key in stage.get("params", []))


def test_every_other_key_of_params_is_declared_by_a_stage():
    declared = {key for stage in STAGES.values() for key in stage.get("params", [])}
    for section, field in params.Params.model_fields.items():
        for key in field.annotation.model_fields:
            assert section == "runtime" or section in declared or f"{section}.{key}" in declared, f"{section}.{key}"


def test_no_stage_imports_another_and_only_one_module_imports_mxnet():
    for path in (ROOT / "stages").glob("*.py"):
        assert not imported(path.stem) & set(STAGES), path
        if path.stem != "mx":
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
                assert not any((name or "").split(".")[0] == "mxnet" for name in names), path
