"""README.md from top to bottom, in one clone: every command works and prints what stands there; no picture is old."""

import re

import pytest
import yaml

from bench import transcripts
from bench.docs import PICTURE, picture_sources
from bench.stamps import is_fresh, stamp
from bench.transcripts import Reader, difference, fits, renewed, steps
from tests.conftest import ROOT
from tests.damage import long

README = (ROOT / "README.md").read_text(encoding="utf-8")


@long
def test_every_command_prints_what_stands_there(tmp_path):
    reader = Reader(tmp_path)
    for step in steps(README):
        printed = reader.run(step.command)
        assert not step.printed or fits(step.printed, printed), difference(step.printed, printed)
    # The teammate's project is a clone too: what CI would run there, for a branch that changes something.
    reader.project.set(train={"epochs": 10})
    (block,) = (part.split("```")[0] for part in README.split("```yaml\n") if part.startswith("on: pull_request"))
    commands = yaml.safe_load(block)["jobs"]["compare"]["steps"][-1]["run"]
    script = f"source() {{ :; }}; cml() {{ echo cml $*; }}\n{commands}"
    assert reader.project.run("bash", "-ec", script) == "cml comment create report.md\n"
    assert "| params.yaml |" in (reader.project.folder / "report.md").read_text()


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    named = set(
        re.findall(r"\b(?:stages|bench|tests|docs)/[\w/.]*\.(?:py|md|txt|png)\b", page.read_text(encoding="utf-8"))
    )
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_pictures_are_of_what_is_there_now():
    assert is_fresh(PICTURE, picture_sources()), "run `make docs`"
    assert is_fresh(ROOT / "docs/bench.png", [ROOT / "docs/bench.md"]), "run `make bench`"


def test_a_picture_of_something_else_is_found(tmp_path):
    source, picture = tmp_path / "a.json", tmp_path / "a.png"
    source.write_text("1")
    picture.write_bytes(PICTURE.read_bytes())
    assert not is_fresh(picture, [source])
    stamp(picture, [source])
    assert is_fresh(picture, [source])
    source.write_text("2")
    assert not is_fresh(picture, [source])


WANTED = ["Stage 'train'", "…", "449 test images: top-1 0.9510", "featurizing: 100%|███| [00:15<00:00]"]


@pytest.mark.parametrize(
    ("printed", "fit"),
    [
        (["Stage 'train'", "449 test images: top-1 0.9510"], True),
        (["Stage 'train'", "a", "b", "449 test images: top-1 0.9510"], True),
        (["Stage 'train'", "449 test images: top-1 0.9521"], False),
        (["a", "Stage 'train'", "449 test images: top-1 0.9510"], False),
        (["Stage 'train'", "449 test images: top-1 0.9510", "more"], False),
    ],
)
def test_numbers_and_lines_that_differ_are_found(printed, fit):
    assert fits(WANTED, printed) == fit


def test_what_varies_is_no_difference():
    table = ["  Experiment   top1   seconds_per_epoch   …", "  main          0.9               0.045   …"]
    other = [
        "  Experiment   top1   seconds_per_epoch   train.lr     data",
        "  main          0.9                0.06   [0.1, 0.2]   12ab.dir",
    ]
    assert fits(table, other)
    assert not fits(table, [other[0], other[1].replace("0.9", "0.8")])
    assert fits(["metrics/timing.json  reused  1 2"], ["metrics/timing.json  reused   10  20"])


def test_numbers_are_renewed_and_nothing_else():
    printed = ["Stage 'train'", "more", "449 test images: top-1 0.9600"]
    assert renewed(WANTED, printed) == [*WANTED[:2], printed[2], WANTED[3]]
    assert renewed(["──────────", " a 1 …"], ["────────────────", " a  22 more"]) == ["────────", " a  22 …"]
    with pytest.raises(ValueError, match="this no longer fits"):
        renewed(WANTED, ["Stage 'train'", "450 images of the test"])


def test_commands_are_taken_with_what_stands_below_them():
    text = "a\n```console\n$ one   # why\nline\n$ two\n```\nb\n```console\n$ three\n```\n"
    found = list(steps(text))
    assert [(step.command, step.printed) for step in found] == [("one", ["line"]), ("two", []), ("three", [])]
    assert text[found[0].start : found[0].end] == "line\n"
    assert transcripts.STORE in README
