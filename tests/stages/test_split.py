"""The lists that the stage split writes by the manifest, and what it reports."""

import hashlib
from pathlib import Path

import pytest
import yaml

from stages import split
from stages.common.errors import InputError
from stages.common.settings.layout import CLASSES, MANIFEST, SUBSETS
from stages.dataset import classes, lists, manifest
from tests.conftest import ROOT


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(files): the stage on a manifest of these {path: bytes}; returns the rows of each subset."""
    monkeypatch.chdir(tmp_path)

    def run(files, **settings):
        record(files)
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["split"].update(settings)
        Path("params.yaml").write_text(yaml.safe_dump(values))
        split.main()
        return {subset: lists.read(subset) for subset in SUBSETS}

    return run


def record(files, offset=None):
    """Writes what the stage images writes of a data set of these {path: bytes}. The class is the folder."""
    manifest.write(
        MANIFEST,
        [
            manifest.Row(path, path.split("/")[-2], hashlib.sha256(files[path]).hexdigest(), len(files[path]), offset)
            for path in sorted(files, key=manifest.order)
        ],
    )
    classes.write(sorted({path.split("/")[-2] for path in files}))


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


def test_the_lists_are_in_the_order_of_the_manifest(run):
    rows = run({path.replace("dog/", "cat-like/"): data for path, data in FILES.items()})
    for subset in SUBSETS:
        paths = [row.path for row in rows[subset]]
        assert paths == sorted(paths, key=manifest.order)


def test_labels_are_by_the_order_of_the_classes(run):
    run(FILES)
    classes.write(["eel", "unused", "dog", "cat"])
    split.main()
    for subset in SUBSETS:
        for row in lists.read(subset):
            assert row.label == {"eel": 0, "dog": 2, "cat": 3}[row.path.split("/")[0]]


def test_images_in_an_archive_are_listed_as_in_the_manifest(run):
    alone = run(FILES)
    record({f"some.tar/top/{path}": data for path, data in FILES.items()}, offset=512)
    split.main()
    for subset in SUBSETS:
        found = [row.path for row in lists.read(subset)]
        assert found == [f"some.tar/top/{row.path}" for row in alone[subset]]


def test_nothing_but_the_manifest_the_classes_and_the_params_is_there_to_be_read(run):
    run(FILES)
    assert sorted(str(path) for path in Path().rglob("*") if path.is_file()) == [
        str(CLASSES.with_suffix(".sha256")),
        str(CLASSES),
        str(MANIFEST.with_suffix(".sha256")),
        str(MANIFEST),
        *(f"data/split/{subset}.{kind}" for subset in sorted(SUBSETS) for kind in ("lst", "sha256")),
        "params.yaml",
    ]


def test_classes_of_another_data_set_are_refused(run):
    first = run(FILES)
    classes.write(["cat", "dog"])
    with pytest.raises(InputError, match=f"^{CLASSES} is not of the same data set as {MANIFEST}: run `dvc repro`$"):
        split.main()
    assert {subset: lists.read(subset) for subset in SUBSETS} == first


def test_without_a_manifest_or_with_a_damaged_one_it_says_so(run):
    run(FILES)
    MANIFEST.write_bytes(MANIFEST.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"^{MANIFEST} is damaged or .*: run `dvc repro`$"):
        split.main()
    MANIFEST.unlink()
    with pytest.raises(InputError, match=f"^{MANIFEST} is missing: run `dvc repro`$"):
        split.main()


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


# What is reported


def printed(run, capsys, files, **settings):
    """What the stage prints but for the sizes of the subsets."""
    run(files, **settings)
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if not line.startswith(("train: ", "valid: ", "test: "))]


def test_copies_are_reported(run, capsys):
    files = {**FILES, "dog/copy.jpg": FILES["dog/0.jpg"], "eel/dog.jpg": FILES["dog/1.jpg"]}
    assert printed(run, capsys, files) == [
        "4 images are 2 distinct ones (same bytes); each is in one subset only:",
        "  dog/0.jpg = dog/copy.jpg",
        "  dog/1.jpg = eel/dog.jpg  (in several classes!)",
    ]


def test_many_copies_are_reported_in_short(run, capsys):
    lines = printed(run, capsys, {**FILES, **{path.replace("cat/", "ape/"): FILES[path] for path in FILES}})
    assert len(lines) == 21
    copies = {path.replace("cat/", "ape/").replace("eel/", "fox/"): data for path, data in FILES.items()}
    lines = printed(run, capsys, {**FILES, **copies})
    assert len(lines) == 22
    assert lines[-1] == "  … and 20 more"


def test_without_copies_nothing_is_reported(run, capsys):
    assert printed(run, capsys, FILES) == []


def test_classes_with_fewer_training_images_are_reported_in_one_line(run, capsys):
    files = {path: data for path, data in FILES.items() if path[:3] != "eel" or int(path[4:-4]) < 10}
    assert printed(run, capsys, files, train_per_class=8) == [
        "fewer than 8 training images: all there are, in 1 of 3 classes (fewest: 6 in eel)"
    ]
    assert printed(run, capsys, files, train_per_class=6) == []


# Groups and given splits

NUMBER = {path: int(path.split("/")[1].split(".")[0]) for path in FILES}


def grouped(monkeypatch, group, split):
    """Has ``run`` record these groups and splits too, which are functions of the path."""

    def record(files):
        paths = sorted(files, key=manifest.order)
        digests = [hashlib.sha256(files[path]).hexdigest() for path in paths]
        made = [
            manifest.Row(path, path.split("/")[0], digest, 1, None, group(path), split(path))
            for path, digest in zip(paths, digests)
        ]
        manifest.write(MANIFEST, made)
        classes.write(sorted({path.split("/")[0] for path in files}))

    monkeypatch.setitem(globals(), "record", record)


def test_groups_are_in_one_list_and_given_images_in_theirs(run, monkeypatch, capsys):
    # Three scenes that show every class, and two images of each class in none.
    grouped(
        monkeypatch,
        lambda path: f"scene {NUMBER[path] // 6}" if NUMBER[path] < 18 else "",
        lambda path: "test" if path == "cat/0.jpg" else "",
    )
    found = run(FILES)
    subset_of = {row.path: subset for subset in SUBSETS for row in found[subset]}
    assert sorted(subset_of) == sorted(FILES)
    scenes = [{subset_of[path] for path in FILES if NUMBER[path] // 6 == scene} for scene in range(3)]
    assert scenes[0] == {"test"}
    assert all(len(scene) == 1 for scene in scenes)
    printed = capsys.readouterr().out
    assert "groups and given splits keep 3 classes from the fractions; distinct train/valid/test images:\n" in printed
    assert "  cat: 12/2/6, by the fractions 11/4/5\n" in printed


def test_contradicting_splits_are_refused(run, monkeypatch):
    given = {"cat/0.jpg": "test", "dog/1.jpg": "train"}
    grouped(monkeypatch, lambda path: "p", lambda path: given.get(path, ""))
    with pytest.raises(InputError, match="cat/0.jpg is given to test and dog/1.jpg to train, but both are of"):
        run(FILES)
