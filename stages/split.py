"""split: which images train the head, which choose its best epoch, which test it."""

import hashlib
from collections import Counter, defaultdict

from stages.common import params
from stages.common.errors import InputError, run
from stages.common.files import replacing
from stages.common.layout import IMAGES, SPLIT, SUBSETS
from stages.dataset import lists


def main():
    split = params.load().split
    digests = {
        path.relative_to(IMAGES).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(IMAGES.glob("*/*"))
    }
    classes = lists.read_classes()
    fractions = [getattr(split, subset) for subset in SUBSETS]
    subsets = assign(digests, fractions, split.seed)
    left_out = beyond(digests, subsets, split.train_per_class, split.seed)

    labels = {name: label for label, name in enumerate(classes)}
    with replacing(SPLIT, folder=True) as destination:
        for subset in SUBSETS:
            paths = [path for path in digests if subsets[digests[path]] == subset and path not in left_out]
            rows = [lists.Row(i, labels[path.split("/")[0]], path) for i, path in enumerate(paths)]
            lists.write(destination / f"{subset}.lst", rows)
            print(f"{subset}: {len(rows)} images")
    report_duplicates(digests)


def assign(digests, fractions, seed):
    """Assigns every distinct image to a subset: returns {digest: subset}.

    digests: {``<class>/<file>``: digest of the bytes}; fractions: of train, valid, test; seed: int.

    Within a class the distinct images are put in the order of a keyed hash of their digests and counted off. So a
    copy is where its original is, names do not matter, and a new image moves at most the images at the borders.
    Raises InputError naming a class too small to be in all three subsets.
    """
    subsets = {}
    for name, images in _by_class(digests).items():
        places = Counter(dict(zip(SUBSETS, quotas(len(images), fractions))))
        # An image that another class holds too has its place already.
        places.subtract(subsets[digest] for digest in images if digest in subsets)
        for digest in _in_order(images, seed):
            if digest not in subsets:
                subsets[digest] = next(s for s in SUBSETS if places[s] > 0)
                places[subsets[digest]] -= 1
        missing = [s for s in SUBSETS if s not in {subsets[d] for d in images}]
        if missing:
            raise InputError(
                f"class {name!r} has {len(images)} distinct image{'s' * (len(images) > 1)}, too few for all of train, "
                f"valid and test (none is left for {missing[0]}): add images or remove the class"
            )
    return subsets


def beyond(digests, subsets, per_class, seed):
    """The paths of the training images that are too many where a class may have ``per_class`` distinct ones.

    digests, seed: as for :func:`assign`, and subsets: what it returned. per_class: None for all.

    Those that a class keeps are the first in the order in which the class was counted off: what a smaller number
    keeps, a larger one keeps too. Prints how many classes have fewer anyway.
    """
    if per_class is None:
        return set()
    kept, short = {}, []
    for name, images in _by_class(digests).items():
        train = [digest for digest in _in_order(images, seed) if subsets[digest] == "train"]
        kept[name] = set(train[:per_class])
        if len(train) < per_class:
            short.append((len(train), name))
    if short:
        fewest, name = min(short)
        print(
            f"fewer than {per_class} training images: all there are, in {len(short)} of {len(kept)} classes "
            f"(fewest: {fewest} in {name})"
        )
    return {
        path
        for path, digest in digests.items()
        if subsets[digest] == "train" and digest not in kept[path.split("/")[0]]
    }


def _by_class(digests):
    """{class: set of the digests of its images}"""
    members = defaultdict(set)
    for path, digest in digests.items():
        members[path.split("/")[0]].add(digest)
    return members


def _in_order(digests, seed):
    return sorted(digests, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())


def quotas(count, fractions):
    """Shares ``count`` images out by ``fractions`` (largest remainder), at least one each where there are enough."""
    exact = [count * fraction for fraction in fractions]
    shares = [int(e) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    for i, share in enumerate(shares):
        if share == 0 and count >= len(shares):
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


def report_duplicates(digests):
    """Prints which images are copies of one another, and which of those carry two labels."""
    copies = defaultdict(list)
    for path, digest in digests.items():
        copies[digest].append(path)
    groups = [paths for paths in copies.values() if len(paths) > 1]
    if groups:
        print(
            f"{sum(map(len, groups))} images are {len(groups)} distinct ones (same bytes); each is in one subset only:"
        )
    for paths in groups[:20]:
        classes = {path.split("/")[0] for path in paths}
        print("  " + " = ".join(paths) + ("  (in several classes!)" if len(classes) > 1 else ""))
    if len(groups) > 20:
        print(f"  … and {len(groups) - 20} more")


if __name__ == "__main__":
    run(main)
