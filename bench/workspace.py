"""A folder to work in, in this process, with params, weights and images of one's own."""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Optional

from bench.project import set_params
from stages import featurize, weights
from stages.common.caches.folders import CACHE_VARIABLE
from stages.common.settings import layout, params
from stages.dataset import classes, lists, manifest
from stages.features.stored import records

# Of the features of EfficientNet-Lite0.
DIM = 1280
# Where the images are.
IMAGES = Path("photos")


@contextlib.contextmanager
def workspace(
    images: Iterable[bytes], weights_folder: Optional[Path] = None, **settings: dict[str, Any]
) -> Iterator[Path]:
    """The current folder becomes one where featurize can run, with ``images`` (files' bytes), all of one class.

    weights_folder: stands for data/weights (see ``prepare.save_weights``); without it, the weights that params.yaml
    names are put there. settings: what is changed in params.yaml, by section.
    """
    before = Path.cwd()
    place = None if weights_folder is None else weights_folder.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            set_params(Path(params.FILE), dataset={"name": "folder", "path": str(IMAGES)}, **settings)
            if place is None:
                with contextlib.redirect_stdout(io.StringIO()):
                    weights.main()
            else:
                layout.WEIGHTS.parent.mkdir()
                layout.WEIGHTS.symlink_to(place)
            _save(images)
            yield Path(folder)
        finally:
            os.chdir(before)


def _save(images: Iterable[bytes]) -> None:
    """Writes ``IMAGES/class/<number>`` and what the stages before featurize would write of them."""
    (IMAGES / "class").mkdir(parents=True)
    rows = []
    for number, data in enumerate(images):
        path = f"class/{number:05}"
        (IMAGES / path).write_bytes(data)
        rows.append(manifest.Row(path, "class", hashlib.sha256(data).hexdigest(), len(data)))
    manifest.write(layout.MANIFEST, rows)
    layout.SPLIT.mkdir()
    for subset in layout.SUBSETS:
        listed = [lists.Row(number, 0, row.path) for number, row in enumerate(rows) if subset == "train"]
        lists.write(layout.SPLIT / f"{subset}.lst", listed)
    classes.write(["class"])


def run_featurize(cache: str) -> records.Work:
    """Runs the stage with ``$HEADSTART_CACHE`` set to ``cache``; returns what it took."""
    os.environ[CACHE_VARIABLE] = cache
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        featurize.main()
    return records.Work.load(records.WORK)
