"""A user's day with DVC's own commands: sweeps, comparisons between branches, the best one kept."""

import csv
import io
import json

import pytest

from tests.project.watching import listed, opened

pytestmark = pytest.mark.xdist_group("watched")

COLUMNS = {"Experiment", "seconds_per_epoch", "valid_top1", "top1", "train.lr"}
RATES = ["0.1", "0.03", "0.001"]


@pytest.fixture(scope="module")
def project(watched):
    yield watched
    watched.run("git", "switch", "-q", "main")
    watched.run("dvc", "checkout", "-q")


def experiments(project):
    """{name: (params, metrics by stage)} of the experiments on the current commit."""
    found = {}
    for experiment in json.loads(project.run("dvc", "exp", "show", "--json"))[-1]["experiments"] or []:
        data = experiment["revs"][0]["data"]
        metrics = {path.split("/")[1][:-5]: value["data"] for path, value in data["metrics"].items()}
        found[experiment["name"]] = data["params"]["params.yaml"]["data"], metrics
    return found


def lasting(metrics):
    """Metrics without timings."""
    return {
        (stage, key): value for stage, values in metrics.items() for key, value in values.items() if stage != "timing"
    }


def test_a_sweep_trains_heads_featurizes_nothing_and_opens_no_image(project):
    opened(project)
    project.run("dvc", "exp", "run", "--queue", "-S", f"train.lr={','.join(RATES)}")
    status = project.run_queue()
    assert status.count("Success") == len(RATES), status
    found = experiments(project)
    assert sorted(params["train"]["lr"] for params, _ in found.values()) == sorted(map(float, RATES))
    # Featurize did not run at all: what it took is what the first run took.
    took = project.metrics("timing")["featurize_seconds"]
    assert {metrics["timing"]["featurize_seconds"] for _, metrics in found.values()} == {took}
    assert len({json.dumps(m["train"]) for _, m in found.values()}) == len(RATES)
    # But for those that the report shows.
    shown, others = opened(project)
    assert others == set() and shown == listed(project, "test")
    assert project.run("git", "status", "--short") == ""


def test_the_table_of_a_sweep_is_small(project):
    # As in the README, but for --csv.
    shown = project.run(
        *["dvc", "exp", "show", "--csv", "--no-pager", "--only-changed"],
        *["--drop", r"(?!Exp|\w+\.|top1|valid_top1|sec)", "--sort-by", "top1", "--sort-order", "desc"],
    )
    rows = [row for row in csv.DictReader(io.StringIO(shown)) if row["Experiment"] and row["Experiment"] != "main"]
    assert len(rows) == len(RATES)
    assert sorted(float(row["train.lr"]) for row in rows) == sorted(map(float, RATES))
    # On so few images the accuracies may all be the same, and then have no column.
    assert {"Experiment", "train.lr"} <= set(rows[0]) <= COLUMNS
    accuracies = [float(row["top1"]) for row in rows if "top1" in row]
    assert accuracies == sorted(accuracies, reverse=True)


def test_one_experiment_run_again_gives_the_same_to_the_last_digit(project):
    name, (params, metrics) = next(iter(experiments(project).items()))
    project.run("dvc", "exp", "apply", name)
    assert lasting({stage: project.metrics(stage) for stage in ("train", "test")}) == lasting(metrics)
    project.run("dvc", "repro", "-f", "-s", "train", "evaluate")
    assert lasting({stage: project.metrics(stage) for stage in ("train", "test")}) == lasting(metrics)
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q")


def test_an_experiment_becomes_a_branch(project):
    name = next(iter(experiments(project)))
    project.run("dvc", "exp", "branch", name, "best")
    assert "best" in project.run("git", "branch", "--list", "best")


def test_branches_are_compared(project):
    project.run("git", "switch", "-q", "-c", "lr-0.2")
    project.set(train={"lr": 0.2})
    assert project.repro() == ["images", "train", "evaluate"]
    project.run("git", "commit", "-qam", "lr 0.2")
    params = project.run("dvc", "params", "diff", "main")
    assert params.split() == ["Path", "Param", "main", "workspace", "params.yaml", "train.lr", "0.01", "0.2"]
    metrics = project.run("dvc", "metrics", "diff", "main", "--all")
    assert "test.json" in metrics
    assert "top1" in metrics
    assert "timing.json" in metrics
    plots = project.run("dvc", "plots", "diff", "main", "-o", "plots")
    assert "index.html" in plots
