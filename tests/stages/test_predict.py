"""Which class an image is of, by the command."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from bench.pictures import encoded, photo
from stages import predict
from stages.backend.mx import mx
from stages.classifier.model import trained as classifier
from stages.dataset import lists
from stages.features import compute
from stages.features.stored import records
from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("trained")

CLASSES = ["cat", "dög", "red panda"]


@pytest.fixture
def run(trained, capsys, monkeypatch):
    """run(argument, …): the command where the classifier was trained; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(trained)

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = predict.main(list(map(str, arguments)))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def passes(monkeypatch):
    """The number of forward passes of every block, as they are made."""
    counts = []

    def counting(*arguments):
        computed = real(*arguments)
        counts.append(computed.forward_passes)
        return computed

    real = compute.compute
    monkeypatch.setattr(compute, "compute", counting)
    return counts


def softmax(logits):
    return mx.nd.softmax(mx.nd.array(logits)).asnumpy()


def paths(printed):
    """The images of the command's CSV, in order."""
    return [row["image"] for row in csv.DictReader(io.StringIO(printed)) if row["rank"] == "1"]


# What is predicted


def test_the_test_images_get_the_probabilities_that_evaluate_measured(run, passes):
    rows = lists.read("test")
    code, printed, _ = run("--json", "--top", 3, *(f"photos/{row.path}" for row in rows))
    assert code == 0
    expected = softmax(classifier.load().logits(records.read("test")[0]))
    for line, row, wanted in zip(printed.splitlines(), rows, expected, strict=False):
        answer = json.loads(line)
        assert answer["image"] == f"photos/{row.path}"
        found = {p["class"]: p["probability"] for p in answer["predictions"]}
        np.testing.assert_allclose([found[name] for name in CLASSES], wanted, atol=1e-6)
    with open("metrics/predictions.csv", encoding="utf-8") as file:
        predicted = [row["predicted"] for row in csv.DictReader(file)]
    assert [json.loads(line)["predictions"][0]["class"] for line in printed.splitlines()] == predicted
    # Their features were computed when the classifier was trained.
    assert passes == [0]


def test_a_new_image_goes_through_the_network_once(run, passes, tmp_path):
    photo(seed=70).save(tmp_path / "new.png")
    first = run("--json", tmp_path / "new.png")
    assert first[0] == 0
    assert run("--json", tmp_path / "new.png") == first
    assert passes == [1, 0]


def test_blocks_make_no_difference(run, monkeypatch):
    _, whole, _ = run("photos", "--csv")
    assert len(paths(whole)) == 24
    monkeypatch.setattr(predict, "BLOCK", 7)
    assert run("photos", "--csv")[:2] == (0, whole)


# What is printed


def test_as_a_table(run):
    code, printed, _ = run("photos/cat", "photos/red panda/000.jpg")
    lines = printed.splitlines()
    assert (code, len(lines)) == (0, 9)
    for line in lines:
        image, name, probability = line.replace("red panda", "red_panda").split()
        assert image.endswith(".jpg") and name.replace("_", " ") in CLASSES
        assert len(probability) == 6 and 0.3333 <= float(probability) <= 1
    # In columns.
    assert len({line.rindex(" ") for line in lines}) == 1


def test_as_csv_with_a_row_for_each_class(run):
    _, printed, _ = run("photos/cat/000.jpg", "--csv", "--top", 2)
    lines = printed.splitlines()
    assert lines[0] == "image,rank,class,probability"
    assert [line.split(",")[:2] for line in lines[1:]] == [["photos/cat/000.jpg", rank] for rank in "12"]


def test_the_likeliest_come_first_and_there_are_no_more_than_classes(run):
    _, printed, _ = run("photos/cat/000.jpg", "--json", "--top", 100)
    found = json.loads(printed)["predictions"]
    assert sorted(p["class"] for p in found) == CLASSES
    probabilities = [p["probability"] for p in found]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    "arguments", [["--top", "0", "a.jpg"], ["--top", "two", "a.jpg"], ["--csv", "--json", "a"], []]
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        predict.main(arguments)
    assert refused.value.code == 2
    assert "error: " in capsys.readouterr().err


# Which files


def test_names_are_read_from_standard_input(run):
    listed = b"photos/cat/001.jpg\n\nphotos/d\xc3\xb6g/000.jpg\r\nphotos/cat"
    code, printed, _ = run("--csv", "photos/cat/005.jpg", "-", stdin=listed)
    assert code == 0
    assert paths(printed)[:3] == [f"photos/{name}.jpg" for name in ("cat/005", "cat/001", "dög/000")]
    assert len(paths(printed)) == 3 + 8


def test_what_cannot_be_read_is_reported_and_the_others_go_on(run, tmp_path):
    whole = encoded(photo(seed=72), "JPEG")
    files = {"a.jpg": whole, "b.jpg": whole[: len(whole) // 2], "c.jpg": b"", "d.txt": b"text", "e.txt": b"text"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code, printed, complaints = run(tmp_path, tmp_path / "none.jpg", "/dev/null", "--csv")
    assert code == 1
    assert paths(printed) == [f"{tmp_path}/a.jpg"]
    beginnings = [
        "/dev/null is not a file",
        f"{tmp_path}/b.jpg is damaged or cut short",
        f"{tmp_path}/c.jpg is empty (0 bytes)",
        f"{tmp_path}/d.txt is not an image",
        f"{tmp_path}/e.txt is a copy: {tmp_path}/d.txt is not an image",
        f"{tmp_path}/none.jpg does not exist",
    ]
    for line, beginning in zip(sorted(complaints.splitlines()), beginnings):
        assert line.startswith(f"error: {beginning}")
    assert len(complaints.splitlines()) == len(beginnings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_rights_is_reported(run, tmp_path):
    (tmp_path / "a.jpg").touch(mode=0o000)
    assert run(tmp_path / "a.jpg") == (1, "", f"error: {tmp_path}/a.jpg cannot be read (Permission denied)\n")


def test_when_nothing_can_be_read_nothing_is_printed(run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    assert run(tmp_path) == (1, "", f"error: {tmp_path}/a.jpg is empty (0 bytes)\n")


def test_an_empty_list_is_fine(run):
    assert run("-") == (0, "", "")


def command(folder, *arguments, **options):
    """What became of the command as a process, where the output takes ASCII alone."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    program = [sys.executable, "-m", "stages.predict", *arguments]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, **options)


def test_whatever_is_in_a_name_does_nothing_to_a_terminal(trained, tmp_path):
    image = (trained / "photos/cat/000.jpg").read_bytes()
    (tmp_path / "dög\x1b[31m\u202e.png").write_bytes(image)
    with open(os.fsencode(tmp_path) + b"/gr\xfc\xdf.png", "wb") as file:
        file.write(image)
    done = command(trained, tmp_path, "dög\x9b")
    first, second = done.stdout.splitlines()
    assert first.startswith(b"%b/d\\u00f6g\\u001b[31m\\u202e.png  " % os.fsencode(tmp_path))
    # What is not text goes out as it came in.
    assert second.startswith(b"%b/gr\xfc\xdf.png  " % os.fsencode(tmp_path))
    assert done.stderr.endswith(b"error: d\\u00f6g\\u009b does not exist\n")
    assert done.returncode == 1


def test_without_standard_input_there_is_nothing_to_read(trained):
    done = command(trained, "-", preexec_fn=lambda: os.close(0))
    assert (done.returncode, done.stderr) == (1, b"error: standard input is closed: there is nothing to read\n")
