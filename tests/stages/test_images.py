"""The data set as the other stages find it, and what a folder of images must be like."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from bench.pictures import encoded, photo
from stages import images
from stages.common.errors import InputError

SHIPPED = Path(__file__).parent.parent.parent / "params.yaml"
IMAGES, CLASSES = Path("data/images"), Path("data/classes.txt")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(**dataset):
    """The stage, with these settings of the section dataset."""
    values = yaml.safe_load(SHIPPED.read_text())
    values["dataset"].update({"name": "folder", "path": "mine", **dataset})
    Path("params.yaml").write_text(yaml.safe_dump(values))
    images.main()


def image(seed=0):
    return encoded(photo(seed, (12, 8)), "PNG")


def lay_out(files, folder="mine"):
    """Writes ``files`` ({path: bytes, or None for an empty folder}) into the user's folder."""
    for path, data in files.items():
        path = Path(folder, path)
        (path if data is None else path.parent).mkdir(parents=True, exist_ok=True)
        if data is not None:
            path.write_bytes(data)


def made():
    """What the stage has made, by path."""
    return {
        path.relative_to(IMAGES).as_posix(): path.read_bytes() for path in sorted(IMAGES.rglob("*")) if path.is_file()
    }


def classes():
    return CLASSES.read_text(encoding="utf-8").splitlines()


def refusal(**dataset):
    """The message with which the stage refuses the user's folder."""
    with pytest.raises(InputError) as refused:
        run(**dataset)
    message = str(refused.value)
    assert "\n" not in message
    assert not Path("data/images.tmp").exists()
    return message


TWO = {"cat/a.png": image(1), "cat/b.png": image(2), "dog/a.png": image(3)}


# The bundled digits


def test_the_digits_are_those_of_scikit_learn():
    run(name="digits")
    data = load_digits()
    assert classes() == [str(digit) for digit in range(10)]
    assert len(made()) == len(data.target) == 1797
    for number in (0, 1, 1796):
        grey = np.asarray(Image.open(IMAGES / str(data.target[number]) / f"{number:04}.png"))
        np.testing.assert_allclose(grey / 255 * 16, data.images[number], atol=0.05)


# A folder of the user's


def test_a_folder_is_taken_over_class_by_class(capsys):
    lay_out(TWO)
    run()
    assert made() == TWO
    assert classes() == ["cat", "dog"]
    assert "mine: 3 images" in capsys.readouterr().out


def test_images_are_linked_not_copied():
    lay_out(TWO)
    run()
    for path in TWO:
        assert os.path.samefile(Path("mine", path), IMAGES / path)


def test_the_folder_may_lie_anywhere(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    lay_out(TWO, elsewhere)
    run(path=str(elsewhere))
    assert made() == TWO


def test_the_folder_its_classes_and_its_images_may_be_links(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    lay_out(TWO, elsewhere)
    Path("linked/cat").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        os.symlink(elsewhere / "cat" / name, Path("linked/cat", name))
    os.symlink(elsewhere / "dog", "linked/dog")
    os.symlink("linked", "mine")
    run()
    assert made() == TWO


def test_names_may_have_spaces_quotes_and_any_letters():
    files = {"red panda/it's 1 (2).png": image(1), "dög/日本 🐕.png": image(2), "#1%/a;b&c.png": image(3)}
    lay_out(files)
    run()
    assert made() == files
    assert classes() == ["#1%", "dög", "red panda"]


def test_the_ending_of_a_name_does_not_matter():
    files = {"cat/a.jpg": image(1), "cat/b": image(2), "dog/A.PNG": encoded(photo(3, (12, 8)), "JPEG")}
    lay_out(files)
    run()
    assert made() == files


def test_classes_are_sorted_whatever_order_the_disk_has():
    lay_out({f"{name}/a.png": image() for name in ("b", "B", "10", "9", "ä", "a")})
    run()
    assert classes() == ["10", "9", "B", "a", "b", "ä"]


def test_hidden_files_and_folders_are_passed_over():
    lay_out({**TWO, "cat/.DS_Store": b"x", ".git/HEAD": b"x", "dog/.thumbs/a.png": image(), ".gitignore": b"x"})
    run()
    assert made() == TWO


def test_files_in_no_class_are_passed_over_and_counted(capsys):
    lay_out({**TWO, "README.txt": b"x"})
    run()
    assert "passed over 1 file that lies directly in mine, in no class" in capsys.readouterr().out
    lay_out({"license": b"x"})
    run()
    assert "passed over 2 files that lie directly in mine, in no class" in capsys.readouterr().out
    assert made() == TWO


def test_a_second_run_replaces_the_first():
    lay_out(TWO)
    run()
    Path("mine/cat/b.png").unlink()
    lay_out({"ape/a.png": image(4)})
    run()
    assert set(made()) == {"ape/a.png", "cat/a.png", "dog/a.png"}
    assert classes() == ["ape", "cat", "dog"]


def test_the_users_files_stay_as_they_are():
    lay_out(TWO)
    run()
    run()
    assert {path: Path("mine", path).read_bytes() for path in TWO} == TWO


# What is refused


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not a picture", "is not an image of a kind that can be read"),
        (image()[:100], "is damaged or cut short"),
    ],
    ids=["empty", "text", "cut short"],
)
def test_a_bad_image_is_named(data, what):
    lay_out({**TWO, "cat/c.png": data})
    message = refusal()
    assert message.startswith(f"mine/cat/c.png {what}")
    assert message.endswith("; mend or remove it, or set dataset.on_bad_image: skip")


def test_bad_images_are_counted():
    lay_out({**TWO, "cat/c.png": b"", "cat/d.png": b"", "dog/b.png": b"x"})
    assert refusal().startswith("mine/cat/c.png is empty (0 bytes) (and 2 more like it); ")


def test_bad_images_can_be_skipped_and_are_reported(capsys):
    lay_out({**TWO, "cat/c.png": b"", "dog/b.png": b"x"})
    run(on_bad_image="skip")
    assert made() == TWO
    printed = capsys.readouterr().out
    assert "skipped: mine/cat/c.png is empty (0 bytes)\n" in printed
    assert "skipped: mine/dog/b.png is not an image" in printed
    assert "mine: 3 images, 2 skipped\n" in printed


def test_a_class_of_bad_images_only_is_refused_though_they_are_skipped():
    lay_out({**TWO, "eel/a.png": b"x"})
    assert refusal(on_bad_image="skip").startswith("class 'eel' in mine holds no image")


@pytest.mark.parametrize("name", ["a\tb.png", "a\nb.png", "a\rb.png", os.fsdecode(b"a\xffb.png")], ids=ascii)
def test_an_image_whose_name_no_list_can_hold_is_refused(name):
    lay_out({**TWO, f"cat/{name}": image()})
    message = refusal()
    assert message.startswith(ascii(f"mine/cat/{name}"))
    assert "has a tab, a line break or a byte that is not UTF-8 in its name: rename it" in message


@pytest.mark.parametrize("name", ["a\tb", "a\nb", os.fsdecode(b"a\xffb")], ids=ascii)
def test_so_is_such_a_class(name):
    lay_out({**TWO, f"{name}/a.png": image()})
    assert "in its name: rename it" in refusal()
    assert ascii(name) in refusal(on_bad_image="skip")


def test_a_folder_within_a_class_is_refused():
    lay_out({**TWO, "cat/more/a.png": image()})
    assert refusal().startswith("mine/cat/more is a folder: images lie directly in their class's folder")


def test_a_link_that_leads_nowhere_is_named():
    lay_out(TWO)
    os.symlink("gone.png", "mine/cat/c.png")
    assert refusal().startswith("mine/cat/c.png cannot be read (No such file or directory)")


def test_a_data_set_that_there_is_not():
    message = "params.yaml: dataset.name: must be one of digits, folder, caltech256 (got 'digit')"
    assert refusal(name="digit") == message


def test_no_folder():
    assert refusal() == "dataset.path: there is no folder mine"
    Path("mine").write_bytes(b"a file")
    assert refusal() == "dataset.path: there is no folder mine"


@pytest.mark.parametrize("files", [{".": None}, {"cat": None}, {"a.png": image()}, {"cat/.a.png": image()}], ids=str)
def test_no_images(files):
    lay_out(files)
    assert refusal() == "there are no images in mine: put them there as mine/<class>/<image>"


def test_one_class():
    lay_out({"cat/a.png": image()})
    assert refusal() == "mine holds one class (cat): there is nothing to tell apart, add a second folder"


def test_an_empty_class():
    lay_out({**TWO, "eel": None})
    assert refusal() == "class 'eel' in mine holds no image: add some or remove the folder"


def test_after_a_failure_the_images_are_those_of_before():
    lay_out(TWO)
    run()
    lay_out({"eel/a.png": b""})
    refusal()
    assert made() == TWO
    assert classes() == ["cat", "dog"]
