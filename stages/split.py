"""split: which images train the head, which choose its best epoch, which test it."""

from collections import defaultdict
from collections.abc import Mapping

from stages.common.disk.files import replacing
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.common.settings.layout import CLASSES, MANIFEST, SPLIT, SUBSETS
from stages.dataset import classes, groups, lists, manifest, splitting

# So many sets of copies, or classes, are shown.
SHOWN = 20


def main() -> None:
    chosen = params.load().split
    images = manifest.read(MANIFEST)
    by_class: dict[str, set[str]] = defaultdict(set)
    for name, digest in zip(images.class_names, images.digests):
        by_class[name].add(digest)

    fractions = [chosen.train, chosen.valid, chosen.test]
    bound = groups.bound(images)
    subsets = splitting.assign(by_class, fractions, chosen.seed, bound.groups, bound.given)
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
    if any(bound):
        report_unmet(splitting.unmet(by_class, subsets, fractions))
    report_copies(images)


def report_unmet(unmet: Mapping[str, tuple[list[int], list[int]]]) -> None:
    """Prints the classes that groups or given splits keep from the fractions of params.yaml, the farthest off first."""
    if unmet:
        print(
            f"groups and given splits keep {len(unmet)} classes from the fractions; distinct train/valid/test images:"
        )
    worst = sorted(unmet, key=lambda name: -max(abs(is_ - by) for by, is_ in zip(*unmet[name])))
    for name in worst[:SHOWN]:
        by_fractions, are = ("/".join(map(str, counts)) for counts in unmet[name])
        print(f"  {name}: {are}, by the fractions {by_fractions}")
    if len(unmet) > SHOWN:
        print(f"  … and {len(unmet) - SHOWN} more")


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
