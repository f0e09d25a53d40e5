"""How much of a learning-rate sweep's time is training: ``python -m bench.sweep [images] [classes]``, or ``--digits``.

In a clone of its own: one `dvc repro`, then five learning rates by DVC's own commands, once one after another in the
workspace (`dvc exp run -S`) and once two at a time by the queue. The images are tiny and made up, so that the first
run is short; their features are as wide as any (EfficientNet-Lite0), and the head does not see the difference.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bench.project import Project, clone
from stages.common.progress import progress
from stages.common.settings import params

RATES = ["0.1", "0.03", "0.02", "0.003", "0.001"]
EXPERIMENTS = "refs/exps/??/*/*"


def save_images(folder: Path, images: int, classes: int) -> None:
    """Writes ``<folder>/<class>/<n>.png``, 8×8 pixels: noise around a pattern of the class's."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(50, 200, (classes, 8, 8, 3))
    for number in progress(range(images), desc="making images"):
        label = number % classes
        place = folder / f"{label:03}" / f"{number:06}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(patterns[label], 60).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place)


def in_the_workspace(project: Project) -> None:
    for rate in RATES:
        project.run("dvc", "exp", "run", "-S", f"train.lr={rate}")


def by_the_queue(project: Project) -> None:
    # With another seed, or DVC's run cache would have the heads.
    project.run("dvc", "exp", "run", "--queue", "-S", f"train.lr={','.join(RATES)}", "-S", "train.seed=1")
    project.run_queue(jobs=2)


def experiments(project: Project) -> list[str]:
    """The commits of the experiments that are done."""
    return project.run("git", "for-each-ref", "--format=%(objectname)", EXPERIMENTS).split()


SWEEPS = {1: in_the_workspace, 2: by_the_queue}


def measure(project: Project, jobs: int) -> None:
    """Sweeps with ``jobs`` at a time and prints what it took."""
    first = project.metrics("timing")
    begun = time.perf_counter()
    SWEEPS[jobs](project)
    seconds = time.perf_counter() - begun
    training, passes, epochs = 0, 0, params.load(project.folder / params.FILE).train.epochs
    for commit in experiments(project):
        timing = json.loads(project.run("git", "show", f"{commit}:metrics/timing.json"))
        training += timing["seconds_per_epoch"] * epochs
        # Where featurize did not run, its time is the first run's.
        passes += timing["forward_passes"] * (timing["featurize_seconds"] != first["featurize_seconds"])
    print(
        f"{len(RATES)} rates, {jobs} at a time: {passes} forward passes, {seconds:.1f} s, "
        f"{training:.1f} s of training: {training / (seconds * jobs):.0%}"
    )
    project.run("dvc", "exp", "remove", "-A")
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__.split(":")[0])
    parser.add_argument("images", type=int, nargs="?", default=5_000)
    parser.add_argument("classes", type=int, nargs="?", default=50)
    parser.add_argument("--digits", action="store_true", help="the pipeline as it is shipped")
    parser.add_argument("--jobs", type=int, choices=SWEEPS, help="only so many at a time")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as place:
        project = clone(Path(place) / "project")
        if not given.digits:
            save_images(Path(place) / "images", given.images, given.classes)
            project.set(
                dataset={"name": "folder", "path": f"{place}/images"},
                backbone={"name": "efficientnet_lite0"},
            )
        begun = time.perf_counter()
        project.run("dvc", "repro")
        print(f"first run: {project.featurized()[0]:,} images, {time.perf_counter() - begun:.1f} s")
        project.run("git", "commit", "-qam", "run")
        for jobs in SWEEPS if given.jobs is None else [given.jobs]:
            measure(project, jobs)


if __name__ == "__main__":
    main()
