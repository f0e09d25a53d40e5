"""split: which images train the head, which choose its best epoch, which test it."""

from collections import defaultdict
from collections.abc import Mapping

from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import replacing
from stages.common.layout import CLASSES, MANIFEST, SPLIT, SUBSETS
from stages.dataset import classes, lists, manifest, splitting

# So many sets of copies are shown.
SHOWN = 20


def main() -> None:
    chosen = params.load().split
    images = manifest.read(MANIFEST)
    by_class: dict[str, set[str]] = defaultdict(set)
    for name, digest in zip(images.class_names, images.digests):
        by_class[name].add(digest)

    subsets = splitting.assign(by_class, [chosen.train, chosen.valid, chosen.test], chosen.seed)
    left_out: dict[str, set[str]] = {}
    if chosen.train_per_class is not None:
        left_out = splitting.beyond(by_class, subsets, chosen.train_per_class, chosen.seed)
        report_few(by_class, subsets, chosen.train_per_class)

    labels = {name: label for label, name in enumerate(classes.read())}
    if not labels.keys() >= by_class.keys():
        raise InputError(f"{CLASSES} is not of the same data set as {MANIFEST}: run `dvc repro`")
    with replacing(SPLIT, folder=True) as destination:
        for subset in SUBSETS:
            members = [
                (labels[name], path)
                for path, name, digest in zip(images.paths, images.class_names, images.digests)
                if subsets[digest] == subset and digest not in left_out.get(name, ())
            ]
            rows = (lists.Row(index, label, path) for index, (label, path) in enumerate(members))
            lists.write(destination / f"{subset}.lst", rows)
            print(f"{subset}: {len(members)} images")
    report_copies(images)


def report_few(by_class: Mapping[str, set[str]], subsets: Mapping[str, str], per_class: int) -> None:
    """Prints how many classes have fewer than ``per_class`` distinct training images."""
    counts = {name: sum(subsets[digest] == "train" for digest in images) for name, images in by_class.items()}
    short = sorted((count, name) for name, count in counts.items() if count < per_class)
    if short:
        fewest, name = short[0]
        print(
            f"fewer than {per_class} training images: all there are, in {len(short)} of {len(counts)} classes "
            f"(fewest: {fewest} in {name})"
        )


def report_copies(images: manifest.Manifest) -> None:
    """Prints which images are copies of one another, and which of those carry two labels."""
    copies = splitting.duplicates(images.digests)
    if copies:
        count = sum(map(len, copies))
        print(f"{count} images are {len(copies)} distinct ones (same bytes); each is in one subset only:")
    for rows in copies[:SHOWN]:
        several = len({images.class_names[row] for row in rows}) > 1
        print("  " + " = ".join(images.paths[row] for row in rows) + ("  (in several classes!)" if several else ""))
    if len(copies) > SHOWN:
        print(f"  … and {len(copies) - SHOWN} more")


if __name__ == "__main__":
    run(main)
