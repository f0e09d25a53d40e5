"""Which image is in which subset."""

import hashlib
import random
from collections import Counter, defaultdict

import pytest

from stages.common.errors import InputError
from stages.common.settings.layout import SUBSETS
from stages.dataset import splitting

FRACTIONS = [0.55, 0.20, 0.25]


def digest(content):
    return hashlib.sha256(str(content).encode()).hexdigest()


def folder(**counts):
    """{path: digest} of as many different images for each class."""
    return {f"{name}/{n:04}.jpg": digest((name, n)) for name, count in counts.items() for n in range(count)}


def by_class(images):
    """{class: digests} of {path: digest}"""
    found = defaultdict(set)
    for path, digest in images.items():
        found[path.split("/")[0]].add(digest)
    return found


def by_path(images, seed=0, fractions=FRACTIONS):
    """{path: subset}"""
    subsets = splitting.assign(by_class(images), fractions, seed)
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
    assert splitting.quotas(count, fractions) == wanted


@pytest.mark.parametrize("fractions", [FRACTIONS, [0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.98, 0.01, 0.01]])
def test_shares_add_up_and_are_within_one_of_exact(fractions):
    for count in range(200):
        shares = splitting.quotas(count, fractions)
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
    assert splitting.assign(by_class(renamed), FRACTIONS, 0) == splitting.assign(by_class(images), FRACTIONS, 0)


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


def test_neither_does_it_where_classes_share_images():
    images = folder(cat=40, dog=40, eel=10)
    images.update({f"dog/{n:04}.jpg": images[f"cat/{n:04}.jpg"] for n in range(0, 40, 3)})
    assert by_path(dict(sorted(images.items(), reverse=True))) == by_path(images)


def test_copies_are_found():
    images = {**folder(cat=4, dog=4), "cat/copy.jpg": digest(("cat", 0)), "dog/cat.jpg": digest(("cat", 1))}
    assert splitting.duplicates(list(images.values())) == [[0, 8], [1, 9]]
    assert splitting.duplicates([digest(0)] * 3) == [[0, 1, 2]]
    assert splitting.duplicates(list(folder(cat=5).values())) == splitting.duplicates([]) == []


# Few for training


def training(images, per_class, seed=0):
    """The paths of the training images that stay."""
    digests = by_class(images)
    subsets = splitting.assign(digests, FRACTIONS, seed)
    left_out = splitting.beyond(digests, subsets, per_class, seed)
    assert all(subsets[digest] == "train" for digests in left_out.values() for digest in digests)
    return {
        path
        for path, digest in images.items()
        if subsets[digest] == "train" and digest not in left_out[path.split("/")[0]]
    }


def test_a_smaller_number_of_training_images_is_part_of_a_larger():
    images = folder(cat=40, dog=30)
    before = set()
    for number in (1, 2, 5, 10, 15):
        found = training(images, number)
        assert before < found
        assert [sum(path.startswith(name) for path in found) for name in ("cat", "dog")] == [number, number]
        before = found
    assert training(images, 5, seed=1) != training(images, 5)


def test_a_class_with_fewer_keeps_all_it_has():
    assert len(training(folder(cat=40, dog=20, eel=10), 11)) == 11 + 11 + 6
    assert len(training(folder(cat=40), 22)) == len(training(folder(cat=40), 1000)) == 22


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


# Groups


def drawn(rng, classes, most, mixed=False):
    """Groups of random sizes up to ``most``: ({class: digests}, groups of two or more)."""
    images, groups = defaultdict(set), []
    for name in classes:
        for number in range(rng.randint(3, 40)):
            members = [digest((name, number, n)) for n in range(rng.randint(1, most))]
            for member in members:
                images[rng.choice(classes) if mixed else name].add(member)
            if len(members) > 1:
                groups.append(members)
    return images, groups


@pytest.mark.parametrize("seed", range(60))
def test_groups_stay_whole_and_every_class_is_within_one_of_them_of_its_fractions(seed):
    rng = random.Random(seed)
    images, groups = drawn(rng, ["cat", "dog", "eel"], rng.choice([2, 5, 30]))
    found = splitting.assign(images, FRACTIONS, seed, groups)
    assert set(found) == set().union(*images.values())
    assert all(len({found[member] for member in group}) == 1 for group in groups)
    for members in images.values():
        counts = Counter(found[member] for member in members)
        largest = max([1, *(len(group) for group in groups if group[0] in members)])
        for subset, fraction in zip(SUBSETS, FRACTIONS):
            assert counts[subset]
            assert abs(counts[subset] - fraction * len(members)) <= largest


@pytest.mark.parametrize("seed", range(20))
def test_groups_of_several_classes_stay_whole_and_come_near(seed):
    images, groups = drawn(random.Random(seed), ["cat", "dog", "eel"], 9, mixed=True)
    found = splitting.assign(images, FRACTIONS, seed, groups)
    assert all(len({found[member] for member in group}) == 1 for group in groups)
    for members in images.values():
        counts = Counter(found[member] for member in members)
        assert all(abs(counts[s] - fraction * len(members)) <= 9 for s, fraction in zip(SUBSETS, FRACTIONS))


def test_what_is_in_no_group_fills_up_to_the_image():
    images = by_class(folder(cat=100))
    members = sorted(images["cat"])
    found = splitting.assign(images, FRACTIONS, 0, [members[:13], members[13:30], members[30:32]])
    assert [Counter(found.values())[subset] for subset in SUBSETS] == [55, 20, 25]


def test_the_order_of_the_groups_does_not_matter():
    images, groups = drawn(random.Random(1), ["cat", "dog"], 6)
    backwards = [group[::-1] for group in groups[::-1]]
    assert splitting.assign(images, FRACTIONS, 0, backwards) == splitting.assign(images, FRACTIONS, 0, groups)
    assert splitting.assign(images, FRACTIONS, 1, groups) != splitting.assign(images, FRACTIONS, 0, groups)


@pytest.mark.parametrize("sizes", [[100, 1, 1], [1, 30, 30], [50, 2, 2], [3, 3, 3], [90, 2, 1]])
def test_three_groups_are_enough_for_three_subsets(sizes):
    groups = [[digest((size, place, n)) for n in range(size)] for place, size in enumerate(sizes)]
    found = splitting.assign({"cat": set().union(*groups)}, FRACTIONS, 0, [group for group in groups if len(group) > 1])
    assert {found[group[0]] for group in groups} == set(SUBSETS)


def test_a_class_of_two_groups_is_refused():
    images = by_class(folder(cat=20))
    members = sorted(images["cat"])
    with pytest.raises(InputError, match="class 'cat' has 20 distinct images, too few .* or let go of some groups"):
        splitting.assign(images, FRACTIONS, 0, [members[:10], members[10:]])


def test_given_ones_stay_and_the_others_make_up_for_them():
    images = by_class(folder(cat=100))
    members = sorted(images["cat"])
    given = {**dict.fromkeys(members[:25], "test"), **dict.fromkeys(members[25:30], "valid")}
    found = splitting.assign(images, FRACTIONS, 0, [members[40:50]], given)
    assert {member: found[member] for member in given} == given
    assert [Counter(found.values())[subset] for subset in SUBSETS] == [55, 20, 25]


def test_where_more_are_given_than_the_share_the_others_share_what_is_left():
    images = by_class(folder(cat=100))
    given = dict.fromkeys(sorted(images["cat"])[:40], "test")
    found = splitting.assign(images, FRACTIONS, 0, (), given)
    assert [Counter(found.values())[subset] for subset in SUBSETS] == [44, 16, 40]
    assert splitting.unmet(images, found, FRACTIONS) == {"cat": ([55, 20, 25], [44, 16, 40])}


def test_a_hundred_thousand_in_groups_take_seconds():
    rng = random.Random(0)
    images, groups = defaultdict(set), defaultdict(list)
    for n in range(100_000):
        images[f"class {rng.randrange(100)}"].add(digest(n))
        groups[rng.randrange(30_000)].append(digest(n))
    found = splitting.assign(images, FRACTIONS, 0, [group for group in groups.values() if len(group) > 1])
    assert all(len({found[member] for member in group}) == 1 for group in groups.values())
