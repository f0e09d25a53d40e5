"""dvc.yaml declares what the stages use: no more, no less."""

import pytest

from stages.common.settings import params
from tests.dependencies import dependencies, folded, stages

STAGES = stages()


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_modules_imported(stage):
    assert [dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")] == folded(dependencies(stage))


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


def test_plots_read_as_the_report_does():
    (confusion,) = (plot for plot in STAGES["evaluate"]["plots"] if "metrics/predictions.csv" in plot)
    # Rows are the true classes, columns the predicted ones.
    axes = confusion["metrics/predictions.csv"]
    assert (axes["y"], axes["x"]) == ("actual", "predicted")
