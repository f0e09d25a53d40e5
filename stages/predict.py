"""Which class an image is of: asks the trained classifier.

``python -m stages.predict IMAGE`` prints the class and its probability; ``--help`` tells the rest.
"""

import argparse
import csv
import json
import os
import sys
from itertools import islice

import numpy as np

from stages.backend import devices
from stages.classifier import trained as classifier
from stages.classifier.scores import softmax
from stages.common import params
from stages.common.errors import InputError
from stages.features import compute as features

# Images whose features are in memory at a time. Each such block starts its own workers, which takes some seconds.
BLOCK = 8192


def main(arguments=None):
    """The command ``python -m stages.predict``; returns its exit code."""
    chosen = _parser().parse_args(arguments)
    runtime = params.load().runtime
    context = devices.context(devices.resolve(runtime.devices, "auto")[0])
    recipe, network, about = classifier.load(context)
    if features.fingerprint(recipe).hex() != about["fingerprint"]:
        print("note: the classifier was trained with other versions of headstart or its libraries", file=sys.stderr)

    failed = []

    def complain(path, error):
        failed.append(path)
        print(f"error: {error}", file=sys.stderr)

    # Names of files are bytes; those that are not text go out as they came in.
    sys.stdout.reconfigure(errors="surrogateescape")
    write = {"json": write_json, "csv": write_csv}.get(chosen.format, write_table)
    paths = files(chosen.images, complain)
    if chosen.format == "csv":
        print("image,rank,class,probability")
    while block := list(islice(paths, BLOCK)):
        array, digests, _ = features.featurize(
            block, recipe, runtime, lambda n, dim: np.empty((n, dim), about["dtype"]), complain
        )
        good = [row for row, digest in enumerate(digests) if digest is not None]
        if good:
            found = softmax(network.logits(array[good]))
            write([block[row] for row in good], likeliest(found, about["classes"], chosen.top), sys.stdout)
            sys.stdout.flush()
    return 1 if failed else 0


def _parser():
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
    form.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help='one JSON object per line: {"image": …, "predictions": [{"class": …, "probability": …}, …]}',
    )
    form.add_argument(
        "--csv",
        dest="format",
        action="store_const",
        const="csv",
        help="a row per image and class: image, rank, class, probability",
    )
    return parser


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 (got {text!r})")
    return int(text)


def files(names, complain):
    """Yields the path of every file that ``names`` (files, folders and "-") stand for, in order.

    Folders are walked in the order of the names in them; hidden files and folders are passed over.
    complain(path, error) is called with an InputError for what is neither a file nor a folder.
    """
    for name in names:
        if name == "-":
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
            yield from files((line for line in lines if line not in ("", "-")), complain)
        elif os.path.isdir(name):
            yield from _walk(name)
        elif os.path.isfile(name):
            yield name
        else:
            what = "is not a file" if os.path.exists(name) else "does not exist"
            complain(name, InputError(f"{name} {what}"))


def _walk(folder):
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(place, name)
            # Pipes, sockets and links to nowhere have nothing to be read.
            if not name.startswith(".") and os.path.isfile(path):
                yield path


def likeliest(found, classes, top):
    """The ``top`` likeliest classes of each row of ``found`` (n, classes), as lists of (class, probability)."""
    order = np.argsort(-found, axis=1, kind="stable")[:, :top]
    return [[(classes[label], float(row[label])) for label in labels] for row, labels in zip(found, order)]


def write_table(paths, predictions, file):
    """Writes a line for each image: its path, then each class and probability, in columns."""
    lines = [[path, *(cell for name, p in row for cell in (name, f"{p:.4f}"))] for path, row in zip(paths, predictions)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        file.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n")


def write_csv(paths, predictions, file):
    """Writes a row for each image and class: image, rank (from 1), class, probability."""
    writer = csv.writer(file, lineterminator="\n")
    for path, row in zip(paths, predictions):
        writer.writerows([path, rank, name, f"{p:.6g}"] for rank, (name, p) in enumerate(row, 1))


def write_json(paths, predictions, file):
    """Writes a JSON object for each image, one per line."""
    for path, row in zip(paths, predictions):
        found = [{"class": name, "probability": p} for name, p in row]
        file.write(json.dumps({"image": path, "predictions": found}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    try:
        code = main()
    except BrokenPipeError:
        # Whoever read the output has had enough (``… | head``). Nothing is left to be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
