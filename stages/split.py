"""split: which images train the head, which choose its best epoch, which test it."""

from collections import defaultdict
from collections.abc import Mapping

from stages.common import params
from stages.common.errors import run
from stages.common.files import replacing, sha256
from stages.common.layout import IMAGES, SPLIT, SUBSETS
from stages.dataset import classes, lists, splitting

# So many sets of copies are shown.
SHOWN = 20


def main() -> None:
    chosen = params.load().split
    digests = {path.relative_to(IMAGES).as_posix(): sha256(path) for path in sorted(IMAGES.glob("*/*"))}
    by_class: dict[str, set[str]] = defaultdict(set)
    for path, digest in digests.items():
        by_class[class_of(path)].add(digest)

    subsets = splitting.assign(by_class, [chosen.train, chosen.valid, chosen.test], chosen.seed)
    left_out: dict[str, set[str]] = {}
    if chosen.train_per_class is not None:
        left_out = splitting.beyond(by_class, subsets, chosen.train_per_class, chosen.seed)
        report_few(by_class, subsets, chosen.train_per_class)

    labels = {name: label for label, name in enumerate(classes.read())}
    with replacing(SPLIT, folder=True) as destination:
        for subset in SUBSETS:
            members = [path for path, digest in digests.items() if subsets[digest] == subset]
            paths = [path for path in members if digests[path] not in left_out.get(class_of(path), ())]
            lists.write(
                destination / f"{subset}.lst",
                (lists.Row(index, labels[class_of(path)], path) for index, path in enumerate(paths)),
            )
            print(f"{subset}: {len(paths)} images")
    report_copies(digests)


def class_of(path: str) -> str:
    return path.split("/")[0]


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


def report_copies(digests: Mapping[str, str]) -> None:
    """Prints which images are copies of one another, and which of those carry two labels."""
    copies = splitting.duplicates(digests)
    if copies:
        count = sum(map(len, copies))
        print(f"{count} images are {len(copies)} distinct ones (same bytes); each is in one subset only:")
    for paths in copies[:SHOWN]:
        several = len({class_of(path) for path in paths}) > 1
        print("  " + " = ".join(paths) + ("  (in several classes!)" if several else ""))
    if len(copies) > SHOWN:
        print(f"  … and {len(copies) - SHOWN} more")


if __name__ == "__main__":
    run(main)
