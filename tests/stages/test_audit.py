"""audit: faults planted into a folder of photos are found, and with groups written no leak is left."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.pictures import photo
from bench.planted import COPIES
from bench.project import ROOT, set_params
from stages import audit, featurize, images, split, weights
from stages.common.errors import InputError
from stages.common.settings.layout import MANIFEST, SUBSETS
from stages.dataset import group_file, lists, manifest
from stages.findings import finding
from tests.conftest import BACKBONE

CLASSES = ("cat", "dög", "red panda")
PER_CLASS, COPIED = 13, 20
PARAMS = Path("params.yaml")


def run(*stages):
    for stage in stages:
        stage.main()


def subsets():
    return {row.path: subset for subset in SUBSETS for row in lists.read(subset)}


def found(kind):
    return {(each.path, each.other) for each in finding.read() if each.kind == kind}


def files():
    return [path.read_bytes() for path in (finding.TABLE, finding.COUNTS, finding.BY_CLASS)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory, weights_file):
    """A folder in which the stages up to the audit have run on photos, some of which are there again, changed.

    Returns it, and {path of a near-copy: path of its original}.
    """
    folder = tmp_path_factory.mktemp("audited")
    random, originals, kinds = np.random.default_rng(0), {}, list(COPIES.items())
    for label, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            photo((label, number), (160, 120)).save(folder / "photos" / name / f"{number:02}.png")
    for number in range(COPIED):
        kind, change = kinds[number % len(kinds)]
        name = CLASSES[number % len(CLASSES)]
        original, copy = f"{name}/{number // 3:02}.png", f"{name}/copy {number:02} {kind}.png"
        image = photo((CLASSES.index(name), number // 3), (160, 120))
        change(image, random).save(folder / "photos" / copy)
        originals[copy] = original
    # The same bytes in one class, and in two.
    shutil.copy(folder / "photos/cat/10.png", folder / "photos/cat/again.png")
    shutil.copy(folder / "photos/cat/11.png", folder / "photos/dög/no cat.png")
    set_params(
        folder / "params.yaml",
        dataset={"name": "folder", "path": "photos"},
        backbone={"name": BACKBONE, "weights": "file", "path": str(weights_file)},
        runtime={"workers": 1},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(images, weights, split, featurize, audit)
    return folder, originals


@pytest.fixture
def place(planted, tmp_path, monkeypatch):
    """A copy of it to work in; returns {near-copy: original}."""
    shutil.copytree(planted[0], tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return planted[1]


def test_near_copies_are_leaks_or_duplicates(place):
    where = subsets()
    pairs = {frozenset(pair) for pair in place.items()}
    across = {pair for pair in pairs if len({where[path] for path in pair}) == 2}
    assert len(across) >= 5
    leaks = {frozenset(pair) for pair in found("leak")}
    assert leaks <= pairs
    # What is told of is in the later subset.
    assert all(SUBSETS.index(where[path]) > SUBSETS.index(where[other]) for path, other in found("leak"))
    within = {frozenset(pair) for pair in found("duplicate")} - {frozenset(("cat/10.png", "cat/again.png"))}
    assert within <= pairs - across
    assert len(leaks | within) >= 0.95 * len(pairs)


def test_the_same_bytes_are_found_without_a_look(place):
    assert ("cat/again.png", "cat/10.png") in found("duplicate")
    assert {("dög/no cat.png", "cat/11.png"), ("cat/11.png", "dög/no cat.png")} & found("conflict")


def test_the_counts_are_those_of_the_table(place, capsys):
    audit.main()
    rows = finding.read()
    counts = json.loads(finding.COUNTS.read_text())
    assert list(counts) == ["images", "label", "leak", "conflict", "duplicate", "outlier", "unconfirmed"]
    assert counts["images"] == 3 * PER_CLASS + COPIED + 2 and counts["unconfirmed"] == 0
    assert [counts[kind] for kind in finding.KINDS] == [
        len([1 for row in rows if row.kind == k]) for k in finding.KINDS
    ]
    with open(finding.BY_CLASS, newline="", encoding="utf-8") as file:
        by_class = {row["class"]: int(row["findings"]) for row in csv.DictReader(file)}
    assert list(by_class) == list(CLASSES) and sum(by_class.values()) == len(rows)
    assert f"{counts['leak']} leak" in capsys.readouterr().out
    for kind in finding.KINDS:
        scores = [row.score for row in rows if row.kind == kind]
        assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)


def test_classes_that_features_do_not_tell_apart_are_not_judged(place, capsys):
    # These photos have nothing to do with their classes.
    audit.main()
    assert not found("label") and "labels are not judged: heads know the class of" in capsys.readouterr().out


def test_a_second_run_writes_the_same_bytes(place):
    before = files()
    audit.main()
    assert files() == before


def test_without_the_images_what_was_seen_before_is_known(place):
    before = files()
    shutil.rmtree("photos")
    audit.main()
    assert files() == before


def test_what_cannot_be_confirmed_is_counted_and_told(place, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "empty"))
    shutil.rmtree("photos")
    audit.main()
    counts = json.loads(finding.COUNTS.read_text())
    assert counts["leak"] == 0 and counts["duplicate"] == 1 and counts["conflict"] == 1
    assert counts["unconfirmed"] > 5
    assert f"{counts['unconfirmed']} more pairs" in capsys.readouterr().out


def test_an_image_that_is_another_by_now_is_not_compared(place, monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "empty"))
    copy, original = next(iter(found("leak")))
    photo(99, (160, 120)).save(f"photos/{original}")
    audit.main()
    assert (copy, original) not in found("leak")


def test_with_groups_written_and_split_again_no_leak_is_left(place, capsys):
    assert found("leak")
    audit.main(["--write-groups", "groups.csv"])
    assert "dataset.groups: groups.csv" in capsys.readouterr().out
    with open("groups.csv", newline="", encoding="utf-8") as file:
        groups = {row["path"]: row["group"] for row in csv.DictReader(file)}
    told = [pair for kind in ("leak", "duplicate", "conflict") for pair in found(kind)]
    assert all(groups[path] == groups[other] for path, other in told)
    assert groups.keys() == {path for pair in told for path in pair}
    twins = len(told)
    set_params(PARAMS, dataset={"groups": "groups.csv"})
    run(images, split, featurize, audit)
    assert not found("leak")
    assert len(found("duplicate")) + len(found("conflict")) >= twins - 1
    # Written anew, what was there already is in it too.
    audit.main(["--write-groups", "again.csv"])
    with open("again.csv", newline="", encoding="utf-8") as file:
        assert {row["path"] for row in csv.DictReader(file)} >= groups.keys()


def test_switched_off_it_finds_nothing_and_says_so_in_the_counts(place):
    set_params(PARAMS, audit={"enabled": False})
    audit.main()
    assert finding.read() == []
    assert set(json.loads(finding.COUNTS.read_text()).values()) == {None}


def test_groups_of_no_audit(place):
    os.remove(finding.TABLE)
    with pytest.raises(InputError, match="metrics/audit.csv is missing: run `dvc repro -f audit`"):
        audit.main(["--write-groups", "groups.csv"])
    assert not os.path.exists("groups.csv")


@pytest.mark.parametrize("text", ["", "kind,path\n", "kind,path,class,suggested,score,other\nleak,a,b\n"])
def test_a_damaged_table_is_told_of(place, text):
    finding.TABLE.write_text(text)
    with pytest.raises(InputError, match="metrics/audit.csv is damaged: run `dvc repro -f audit`"):
        finding.read()


def test_paths_that_spreadsheets_would_run_are_read_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MANIFEST.parent.mkdir()
    shutil.copy(ROOT / "params.yaml", PARAMS)
    row = finding.Finding("leak", "=1/a.jpg", "=1", "", 0.9, "'b.jpg")
    finding.write([row], ["=1"])
    assert b"\nleak,'=1/a.jpg,'=1,,0.9000,'b.jpg" in finding.TABLE.read_bytes()
    assert finding.read() == [row]
    manifest.write(MANIFEST, [manifest.Row(path, "=1", "0" * 64, 1) for path in ("'b.jpg", "=1/a.jpg")])
    audit.main(["--write-groups", "groups.csv"])
    assert group_file.read(Path("groups.csv")) == {"=1/a.jpg": "g1", "'b.jpg": "g1"}


def test_features_of_another_split_are_refused(place):
    set_params(PARAMS, split={"train": 0.4, "valid": 0.35})
    split.main()
    with pytest.raises(InputError, match="the features are not those of"):
        audit.main()
