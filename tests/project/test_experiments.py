"""A sweep in the queue; what else a day with DVC's commands has is in test_readme.py."""

import json

import pytest

from tests.damage import long
from tests.project.watching import listed, opened

pytestmark = pytest.mark.xdist_group("watched")

RATES = ["0.1", "0.03"]


def experiments(project):
    """[(params, metrics by file's name)] of the experiments on the current commit."""
    found = []
    for experiment in json.loads(project.run("dvc", "exp", "show", "--json"))[-1]["experiments"] or []:
        data = experiment["revs"][0]["data"]
        metrics = {path.split("/")[1][:-5]: value["data"] for path, value in data["metrics"].items()}
        found.append((data["params"]["params.yaml"]["data"], metrics))
    return found


@long
def test_a_sweep_trains_heads_featurizes_nothing_and_opens_no_image(watched):
    opened(watched)
    watched.run("dvc", "exp", "run", "--queue", "-S", f"train.lr={','.join(RATES)}")
    status = watched.run_queue()
    assert status.count("Success") == len(RATES), status
    found = experiments(watched)
    assert sorted(params["train"]["lr"] for params, _ in found) == sorted(map(float, RATES))
    # Featurize did not run at all: what it took is what the first run took.
    took = watched.metrics("timing")["featurize_seconds"]
    assert {metrics["timing"]["featurize_seconds"] for _, metrics in found} == {took}
    assert len({json.dumps(metrics["train"]) for _, metrics in found}) == len(RATES)
    # But for those that the report shows.
    shown, others = opened(watched)
    assert others == set() and shown == listed(watched, "test")
    assert watched.run("git", "status", "--short") == ""
