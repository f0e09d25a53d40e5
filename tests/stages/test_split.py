"""Which image is in which subset."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from stages import split
from stages.common.errors import InputError
from stages.common.layout import CLASSES, IMAGES, SUBSETS
from stages.dataset import lists

SHIPPED = Path(__file__).parent.parent.parent / "params.yaml"
FRACTIONS = [0.55, 0.20, 0.25]


def digest(content):
    return hashlib.sha256(str(content).encode()).hexdigest()


def folder(**counts):
    """{path: digest} of as many different images for each class."""
    return {f"{name}/{n:04}.jpg": digest((name, n)) for name, count in counts.items() for n in range(count)}


def by_path(images, seed=0, fractions=FRACTIONS):
    """{path: subset}"""
    subsets = split.assign(images, fractions, seed)
    return {path: subsets[digest] for path, digest in images.items()}


def sizes(subset_of, name):
    """How many images of class ``name`` are in train, valid and test."""
    counts = Counter(subset for path, subset in subset_of.items() if path.startswith(f"{name}/"))
    return [counts[subset] for subset in SUBSETS]


# Sizes


@pytest.mark.parametrize(
    ("count", "fractions", "wanted"),
    [
        (100, FRACTIONS, [55, 20, 25]),
        (20, FRACTIONS, [11, 4, 5]),
        (10, FRACTIONS, [6, 2, 2]),  # 5.5, 2, 2.5: the first of equal remainders
        (11, FRACTIONS, [6, 2, 3]),  # 6.05, 2.2, 2.75
        (7, FRACTIONS, [4, 1, 2]),  # 3.85, 1.4, 1.75
        (3, FRACTIONS, [1, 1, 1]),  # 1.65, 0.6, 0.75, but none may be without
        (4, [0.9, 0.05, 0.05], [2, 1, 1]),
        (100, [0.29, 0.29, 0.42], [29, 29, 42]),  # 100 * 0.29 is less than 29 in binary
        (2, FRACTIONS, [1, 0, 1]),  # too few for three
        (0, FRACTIONS, [0, 0, 0]),
    ],
)
def test_shares_are_by_largest_remainder_with_one_for_each(count, fractions, wanted):
    assert split.quotas(count, fractions) == wanted


@pytest.mark.parametrize("fractions", [FRACTIONS, [0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.98, 0.01, 0.01]])
def test_shares_add_up_and_are_within_one_of_exact(fractions):
    for count in range(200):
        shares = split.quotas(count, fractions)
        assert sum(shares) == count
        if count * min(fractions) >= 1:
            assert all(abs(share - count * fraction) < 1 for share, fraction in zip(shares, fractions))


def test_every_class_is_split_by_the_fractions():
    found = by_path(folder(cat=100, dog=20, eel=7))
    assert sizes(found, "cat") == [55, 20, 25]
    assert sizes(found, "dog") == [11, 4, 5]
    assert sizes(found, "eel") == [4, 1, 2]


# What decides


def test_the_same_seed_gives_the_same_split_and_another_one_another():
    images = folder(cat=40, dog=40)
    assert by_path(images) == by_path(images)
    moved = [path for path in images if by_path(images)[path] != by_path(images, seed=1)[path]]
    assert len(moved) > 20
    assert sizes(by_path(images, seed=1), "cat") == sizes(by_path(images), "cat")


def test_the_split_is_the_same_everywhere():
    # On every machine, with every version of Python: it depends on nothing but SHA-256.
    assert list(by_path(folder(cat=6)).values()) == ["train", "train", "train", "test", "valid", "test"]


def test_the_order_of_the_files_does_not_matter():
    images = folder(cat=30, dog=30)
    backwards = dict(sorted(images.items(), reverse=True))
    assert by_path(backwards) == by_path(images)


def test_names_do_not_matter():
    images = folder(cat=30, dog=30)
    renamed = {path.replace("cat/", "kitten/").replace("/00", "/IMG_"): digest for path, digest in images.items()}
    assert split.assign(renamed, FRACTIONS, 0) == split.assign(images, FRACTIONS, 0)


def test_another_class_does_not_matter():
    alone = by_path(folder(cat=30))
    found = by_path(folder(ape=10, cat=30, dog=30))
    assert {path: found[path] for path in alone} == alone


@pytest.mark.parametrize("count", range(5, 60, 3))
def test_a_new_image_moves_at_most_one_at_either_border(count):
    images = folder(cat=count)
    before = by_path(images)
    for new in range(5):
        after = by_path({**images, "cat/new.jpg": digest(("new", new))})
        assert sum(before[path] != after[path] for path in before) <= 2


def test_more_training_images_leave_the_test_images_alone():
    # Taken from valid; the test images are the last in the order.
    images = folder(cat=100)
    before, after = by_path(images), by_path(images, fractions=[0.65, 0.10, 0.25])
    assert [path for path in images if before[path] == "test"] == [path for path in images if after[path] == "test"]


# Copies


def test_copies_are_in_one_subset_and_count_once():
    images = folder(cat=60)
    for n in range(0, 60, 3):
        images[f"cat/{n:04}.jpg"] = images[f"cat/{n + 1:04}.jpg"]
    for seed in range(10):
        found = by_path(images, seed)
        assert all(found[f"cat/{n:04}.jpg"] == found[f"cat/{n + 1:04}.jpg"] for n in range(0, 60, 3))
        distinct = {path: subset for path, subset in found.items() if int(path[4:8]) % 3}
        assert sizes(distinct, "cat") == [22, 8, 10]


def test_an_image_that_is_there_very_often_does_not_crowd_out_the_others():
    # As the picture that stands for "no longer available" in what was gathered on the web.
    images = {**folder(cat=10), **{f"cat/gone{n}.jpg": digest("gone") for n in range(90)}}
    for seed in range(20):
        found = by_path(images, seed)
        assert sizes({path: found[path] for path in [*folder(cat=10), "cat/gone0.jpg"]}, "cat") == [6, 2, 3]


def test_copies_in_several_classes_are_in_one_subset_and_the_sizes_hold():
    images = folder(cat=40, dog=40)
    for n in range(0, 40, 4):
        images[f"dog/{n:04}.jpg"] = images[f"cat/{n:04}.jpg"]
    for seed in range(10):
        found = by_path(images, seed)
        assert all(found[f"dog/{n:04}.jpg"] == found[f"cat/{n:04}.jpg"] for n in range(0, 40, 4))
        assert sizes(found, "cat") == [22, 8, 10]
        assert sizes(found, "dog") == [22, 8, 10]


def test_copies_are_reported(capsys):
    images = {**folder(cat=4, dog=4), "cat/copy.jpg": digest(("cat", 0)), "dog/cat.jpg": digest(("cat", 1))}
    split.report_duplicates(images)
    assert capsys.readouterr().out.splitlines() == [
        "4 images are 2 distinct ones (same bytes); each is in one subset only:",
        "  cat/0000.jpg = cat/copy.jpg",
        "  cat/0001.jpg = dog/cat.jpg  (in several classes!)",
    ]


def test_many_copies_are_reported_in_short(capsys):
    images = folder(cat=30)
    images.update({path.replace("cat", "dog"): digest for path, digest in images.items()})
    split.report_duplicates(images)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  … and 10 more"


def test_without_copies_nothing_is_reported(capsys):
    split.report_duplicates(folder(cat=5))
    assert capsys.readouterr().out == ""


# Few for training


def training(images, per_class, seed=0):
    """The paths of the training images that stay."""
    subsets = split.assign(images, FRACTIONS, seed)
    left_out = split.beyond(images, subsets, per_class, seed)
    assert all(subsets[images[path]] == "train" for path in left_out)
    return {path for path in images if subsets[images[path]] == "train"} - left_out


def test_a_smaller_number_of_training_images_is_part_of_a_larger():
    images = folder(cat=40, dog=30)
    before = set()
    for number in (1, 2, 5, 10, 15):
        found = training(images, number)
        assert before < found
        assert [sum(path.startswith(name) for path in found) for name in ("cat", "dog")] == [number, number]
        before = found
    assert training(images, 5, seed=1) != training(images, 5)


def test_all_are_kept_unless_a_number_is_given(capsys):
    images = folder(cat=40)
    assert training(images, None) == training(images, 22) == training(images, 1000)
    assert len(training(images, None)) == 22


def test_classes_with_fewer_are_reported_in_one_line(capsys):
    images = folder(cat=40, dog=20, eel=10)
    assert len(training(images, 11)) == 11 + 11 + 6
    assert capsys.readouterr().out == (
        "fewer than 11 training images: all there are, in 1 of 3 classes (fewest: 6 in eel)\n"
    )
    training(images, 6)
    assert capsys.readouterr().out == ""


def test_copies_of_a_training_image_stay_with_it_and_count_once():
    images = folder(cat=20)
    images.update({path.replace("cat/", "cat/copy"): digest for path, digest in images.items()})
    found = training(images, 3)
    assert len(found) == 6 and len({images[path] for path in found}) == 3


# Too few


def test_three_images_are_enough():
    assert sizes(by_path(folder(cat=3, dog=20)), "cat") == [1, 1, 1]


@pytest.mark.parametrize(("count", "images"), [(1, "1 distinct image,"), (2, "2 distinct images,")])
def test_a_class_too_small_is_named(count, images):
    with pytest.raises(InputError) as refused:
        by_path(folder(cat=20, dog=count))
    assert str(refused.value).startswith(f"class 'dog' has {images} too few for all of train, valid and test")
    assert "\n" not in str(refused.value)


def test_copies_do_not_make_a_class_large_enough():
    images = {**folder(cat=20, dog=2), "dog/copy1.jpg": digest(("dog", 0)), "dog/copy2.jpg": digest(("dog", 1))}
    with pytest.raises(InputError, match="^class 'dog' has 2 distinct images, too few"):
        by_path(images)


# The stage


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(files): the stage on data/images of these {path: bytes}; returns the rows of each subset."""
    monkeypatch.chdir(tmp_path)

    def run(files, **settings):
        for path, data in files.items():
            (IMAGES / path).parent.mkdir(parents=True, exist_ok=True)
            (IMAGES / path).write_bytes(data)
        CLASSES.write_text("".join(f"{name}\n" for name in sorted({path.split("/")[0] for path in files})))
        values = yaml.safe_load(SHIPPED.read_text())
        values["split"].update(settings)
        Path("params.yaml").write_text(yaml.safe_dump(values))
        split.main()
        return {subset: lists.read(subset) for subset in SUBSETS}

    return run


FILES = {f"{name}/{n}.jpg": f"{name} {n}".encode() for name in ("dog", "cat", "eel") for n in range(20)}


def test_every_image_is_in_one_list_once_with_the_label_of_its_class(run, capsys):
    rows = run(FILES)
    printed = capsys.readouterr().out
    assert sorted(row.path for subset in SUBSETS for row in rows[subset]) == sorted(FILES)
    for subset, count in zip(SUBSETS, (33, 12, 15)):
        assert f"{subset}: {count} images\n" in printed
        assert [row.index for row in rows[subset]] == list(range(count))
        assert all(["cat", "dog", "eel"][row.label] == row.path.split("/")[0] for row in rows[subset])


def test_the_lists_are_the_same_when_made_again(run):
    first = run(FILES)
    assert run(FILES) == first
    assert run(FILES, seed=5) != first


def test_the_fractions_of_the_params_are_used(run):
    rows = run(FILES, train=0.8, valid=0.1, test=0.1)
    assert [len(rows[subset]) for subset in SUBSETS] == [48, 6, 6]


def test_fewer_training_images_leave_validation_and_test_as_they_are(run, capsys):
    whole, few = run(FILES), run(FILES, train_per_class=4)
    assert (few["valid"], few["test"]) == (whole["valid"], whole["test"])
    assert {row.path for row in few["train"]} < {row.path for row in whole["train"]}
    assert [[row.label for row in few["train"]].count(label) for label in range(3)] == [4, 4, 4]
    assert [row.index for row in few["train"]] == list(range(12))
    assert "train: 12 images\n" in capsys.readouterr().out


def test_a_class_too_small_leaves_the_lists_as_they_were(run):
    first = run(FILES)
    with pytest.raises(InputError, match="^class 'fox'"):
        run({**FILES, "fox/1.jpg": b"fox 1"})
    assert {subset: lists.read(subset) for subset in SUBSETS} == first
