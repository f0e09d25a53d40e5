"""Which class an image is of: asks the trained classifier.

``python -m stages.predict IMAGE`` prints the class and its probability; ``--help`` tells the rest.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from stages.classifier.model import trained
from stages.classifier.scores import softmax
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.common.streams import plain
from stages.dataset import named
from stages.dataset.sources.files.places import Place
from stages.exports.predictions import FORMATS, likeliest
from stages.features import compute, identity

# Images whose features are in memory at a time. Each such block starts its own workers, which takes some seconds.
BLOCK = 8192


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command ``python -m stages.predict``; returns its exit code."""
    chosen = _parser().parse_args(arguments)
    runtime = params.load().runtime
    head = trained.load()
    info = head.info
    trained.check_weights(info)
    dtype, classes = np.dtype(info.features.dtype), info.features.classes
    recipe = identity.calibrated(info.features.recipe, runtime.cache)
    if identity.fingerprint(recipe).hex() != info.features.fingerprint:
        print("note: the classifier was trained with other versions of headstart or its libraries", file=sys.stderr)

    failed = []

    def complain(path: str, error: InputError) -> None:
        failed.append(path)
        print(plain(f"error: {error}"), file=sys.stderr)

    def allocate(count: int, dim: int) -> NDArray[Any]:
        return np.empty((count, dim), dtype)

    form = FORMATS[chosen.format]
    sys.stdout.write(form.heading)
    paths = named.files(chosen.images, sys.stdin.buffer, complain)
    while block := list(islice(paths, BLOCK)):
        computed = compute.compute([Place(path) for path in block], recipe, runtime, allocate, complain)
        good = [row for row, digest in enumerate(computed.digests) if digest is not None]
        if good:
            found = softmax(head.logits(computed.features[good]))
            form.write([block[row] for row in good], likeliest(found, classes, chosen.top), sys.stdout)
            sys.stdout.flush()
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Tells the class of images, with its probability, by the classifier that `dvc repro` trained.",
        epilog="A file that cannot be read is reported on stderr and the others go on; the exit code is 1 then.",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE | FOLDER | -",
        help="an image file; a folder, for all files in it and below; or -, to read such names from standard input, "
        "one per line",
    )
    parser.add_argument("--top", type=_count, default=1, metavar="K", help="the K likeliest classes (default: 1)")
    form = parser.add_mutually_exclusive_group()
    helps = {
        "json": 'one JSON object per line: {"image": …, "predictions": [{"class": …, "probability": …}, …]}',
        "csv": "a row per image and class: image, rank, class, probability",
    }
    for name, text in helps.items():
        form.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="table", help=text)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 (got {text!r})")
    return int(text)


if __name__ == "__main__":
    run(main)
