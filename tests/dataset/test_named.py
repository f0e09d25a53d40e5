"""Which files are meant by names on a command line."""

import os

import pytest

from stages.dataset import named


@pytest.fixture
def folder(tmp_path):
    """Files, some of them hidden, and what is no file."""
    for name in ("a.png", "b/deep/x/000.jpg", "b/deep/x/001.jpg", "b/.DS_Store", ".hidden/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "b" / "pipe")
    (tmp_path / "b" / "gone").symlink_to("nowhere")
    return tmp_path


def found(names, listed=()):
    """The files that are found, and what was complained of."""
    complaints = []
    files = list(named.files(map(str, names), listed, lambda path, error: complaints.append((path, str(error)))))
    return files, complaints


def test_folders_are_walked_and_what_is_hidden_is_passed_over(folder):
    names = ["a.png", "b/deep/x/000.jpg", "b/deep/x/001.jpg"]
    assert found([folder]) == ([f"{folder}/{name}" for name in names], [])


def test_a_file_that_is_named_is_taken_even_if_it_is_hidden(folder):
    assert found([folder / "b/.DS_Store"]) == ([f"{folder}/b/.DS_Store"], [])


def test_lines_are_names_in_the_place_of_the_dash(folder):
    listed = [f"{folder}/b\r\n".encode(), b"\n", b"-\n", f"{folder}/a.png".encode()]
    names = ["a.png", "b/deep/x/000.jpg", "b/deep/x/001.jpg", "a.png", "a.png"]
    assert found([folder / "a.png", "-", folder / "a.png"], listed) == ([f"{folder}/{name}" for name in names], [])


def test_a_line_that_is_not_text_is_a_name_too(folder):
    path = os.fsencode(folder) + b"/gr\xfc\xdfe.png"
    open(path, "wb").close()
    assert found(["-"], [path]) == ([os.fsdecode(path)], [])


def test_what_is_neither_file_nor_folder_is_complained_of_and_the_others_go_on(folder):
    pipe, none = folder / "b/pipe", folder / "none"
    assert found([pipe, none, folder / "a.png"]) == (
        [f"{folder}/a.png"],
        [(str(pipe), f"{pipe} is not a file"), (str(none), f"{none} does not exist")],
    )


def test_what_cannot_be_looked_into_is_complained_of(folder, monkeypatch):
    long, nul = "x" * 300, "a\0b"
    why = "cannot be read (File name too long)"
    assert found([long, nul]) == ([], [(long, f"{long} {why}"), (nul, f"{nul} does not exist")])
    monkeypatch.chdir(folder)
    for _ in range(20):
        os.mkdir("y" * 250)
        os.chdir("y" * 250)
    files, [(path, complaint)] = found([folder])
    assert len(files) == 3 and complaint == f"{path} {why}"
