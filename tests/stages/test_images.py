"""What the stage images writes down of a data set, what it reads for that, and what a folder of images must be like."""

import hashlib
import io
import os
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml

from bench.pictures import encoded, photo
from bench.project import set_params
from stages import images
from stages.common.errors import InputError
from stages.common.settings.layout import CLASSES, MANIFEST, ORIGIN
from stages.dataset import manifest
from stages.dataset.manifest import Row
from stages.dataset.sources.files import stamps
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")


def run(**dataset):
    """The stage, with these settings of the section dataset."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
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


def rows():
    """What the manifest says, by row."""
    return list(map(Row, *manifest.read(MANIFEST)))


def described(files):
    """The rows for ``files`` ({path: bytes}) of a folder, in any order."""
    found = [Row(path, path.split("/")[0], sha256(data), len(data)) for path, data in files.items()]
    return sorted(found, key=lambda row: manifest.order(row.path))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def classes():
    return CLASSES.read_text(encoding="utf-8").splitlines()


def written():
    """All that the stage has written, by path."""
    return {str(path): path.read_bytes() for path in sorted(Path("data").rglob("*")) if path.is_file()}


def refusal(**dataset):
    """The message with which the stage refuses the user's folder; what was written before is still there."""
    before = written()
    with pytest.raises(InputError) as refused:
        run(**dataset)
    message = str(refused.value)
    assert "\n" not in message
    assert written() == before
    return message


@pytest.fixture
def settled(monkeypatch):
    """Files need not be seconds old for the index to know them, only older than a tick of the clock: wait for one."""
    monkeypatch.setattr(stamps, "TICK", 0)
    return lambda: time.sleep(0.03)


class Opened:
    """Which of the user's files are opened to be read, as the interpreter itself tells."""

    def __init__(self):
        self.paths = None
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.paths is None or event != "open":
            return
        path, _, flags = arguments
        if "mine/" in str(path) and not flags & (os.O_WRONLY | os.O_RDWR):
            self.paths.append(path)


OPENED = None


@pytest.fixture
def opened():
    """The paths of the user's files that were opened, in order."""
    global OPENED
    OPENED = OPENED or Opened()  # a hook stays for ever
    OPENED.paths = []
    yield OPENED.paths
    OPENED.paths = None


TWO = {"cat/a.png": image(1), "cat/b.png": image(2), "dog/a.png": image(3)}


# What is written down


def test_a_row_for_each_image_and_the_classes(capsys):
    lay_out(TWO)
    run()
    assert rows() == described(TWO)
    assert CLASSES.read_bytes() == b"cat\ndog\n"
    assert capsys.readouterr().out == "folder: 3 images of 2 classes\n"


def test_nothing_else_is_written_and_nothing_of_this_machine(tmp_path):
    lay_out(TWO)
    run()
    assert set(written()) == {
        str(ORIGIN),
        *(str(path.with_suffix(kind)) for path in (MANIFEST, CLASSES) for kind in (path.suffix, ".sha256")),
    }
    assert not any(str(tmp_path).encode() in data for data in written().values())
    assert sorted(os.listdir()) == ["data", "mine", "params.yaml"]


def test_the_same_data_set_elsewhere_has_the_same_manifest(tmp_path):
    lay_out(TWO)
    run()
    first = written()
    lay_out(dict(reversed(TWO.items())), tmp_path / "elsewhere")
    run(path=str(tmp_path / "elsewhere"))
    assert {**written(), str(ORIGIN): None} == {**first, str(ORIGIN): None}


def test_an_unchanged_manifest_keeps_its_times():
    lay_out(TWO)
    run()
    os.utime(MANIFEST, (10**9, 10**9))
    before = MANIFEST.stat()
    run()
    assert (MANIFEST.stat().st_mtime_ns, MANIFEST.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    lay_out({"cat/c.png": image(4)})
    run()
    assert MANIFEST.stat().st_mtime_ns > before.st_mtime_ns


def test_the_digits():
    run(name="digits")
    assert classes() == [str(digit) for digit in range(10)]
    assert len(rows()) == 1797
    root = Path(os.environ["XDG_CACHE_HOME"], "headstart/digits")
    for row in rows()[::100]:
        data = (root / row.path).read_bytes()
        assert row == Row(row.path, row.path[0], sha256(data), len(data))
    assert sorted(os.listdir()) == ["data", "params.yaml"]


def test_images_in_an_archive_have_an_offset(monkeypatch):
    files = {"top/002.ape/a.jpg": image(1), "top/001.cat/b.jpg": image(2), "top/001.cat/a.jpg": image(3)}
    with tarfile.open("own.tar", "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    archive = Path("own.tar").read_bytes()
    monkeypatch.setenv("HEADSTART_CALTECH256_MD5", hashlib.md5(archive).hexdigest())
    run(name="caltech256", path="own.tar")
    assert classes() == ["cat", "ape"]
    assert [row.path for row in rows()] == [f"own.tar/{name}" for name in sorted(files)]
    for row in rows():
        data = archive[row.offset : row.offset + row.size]
        assert data == files[row.path[len("own.tar/") :]] and sha256(data) == row.sha256


# A folder of the user's


def test_the_folder_may_lie_anywhere(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    lay_out(TWO, elsewhere)
    run(path=str(elsewhere))
    assert rows() == described(TWO)


def test_the_folder_its_classes_and_its_images_may_be_links(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    lay_out(TWO, elsewhere)
    Path("linked/cat").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        os.symlink(elsewhere / "cat" / name, Path("linked/cat", name))
    os.symlink(elsewhere / "dog", "linked/dog")
    os.symlink("linked", "mine")
    run()
    assert rows() == described(TWO)


def test_names_may_have_spaces_quotes_and_any_letters():
    files = {"red panda/it's 1 (2).png": image(1), "dög/日本 🐕.png": image(2), "#1%/a;b&c.png": image(3)}
    lay_out(files)
    run()
    assert rows() == described(files)
    assert classes() == ["#1%", "dög", "red panda"]


def test_the_ending_of_a_name_does_not_matter():
    files = {"cat/a.jpg": image(1), "cat/b": image(2), "dog/A.PNG": encoded(photo(3, (12, 8)), "JPEG")}
    lay_out(files)
    run()
    assert rows() == described(files)


def test_classes_are_sorted_whatever_order_the_disk_has():
    lay_out({f"{name}/a.png": image() for name in ("b", "B", "10", "9", "ä", "a")})
    run()
    assert classes() == ["10", "9", "B", "a", "b", "ä"]


def test_hidden_files_and_folders_are_passed_over():
    lay_out({**TWO, "cat/.DS_Store": b"x", ".git/HEAD": b"x", "dog/.thumbs/a.png": image(), ".gitignore": b"x"})
    run()
    assert rows() == described(TWO)


def test_files_in_no_class_are_passed_over_and_counted(capsys):
    lay_out({**TWO, "README.txt": b"x"})
    run()
    assert "passed over 1 file that lies directly in mine, in no class" in capsys.readouterr().out
    lay_out({"license": b"x"})
    run()
    assert "passed over 2 files that lie directly in mine, in no class" in capsys.readouterr().out
    assert rows() == described(TWO)


def test_a_second_run_replaces_the_first():
    lay_out(TWO)
    run()
    Path("mine/cat/b.png").unlink()
    lay_out({"ape/a.png": image(4)})
    run()
    assert [row.path for row in rows()] == ["ape/a.png", "cat/a.png", "dog/a.png"]
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
    assert rows() == described(TWO)
    printed = capsys.readouterr().out
    assert "skipped: mine/cat/c.png is empty (0 bytes)\n" in printed
    assert "skipped: mine/dog/b.png is not an image" in printed
    assert "folder: 3 images of 2 classes, 2 skipped\n" in printed


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


def make_pipe(path):
    os.mkfifo(path)


def link_to_zeros(path):
    os.symlink("/dev/zero", path)


def link_to_a_pipe(path):
    os.mkfifo("pipe")
    os.symlink(os.path.abspath("pipe"), path)


@pytest.mark.parametrize("make", [make_pipe, link_to_zeros, link_to_a_pipe])
def test_what_is_not_a_file_is_named_and_never_opened(make, opened, capsys):
    lay_out(TWO)
    make("mine/cat/c.png")
    assert refusal().startswith("mine/cat/c.png is not a file but a pipe, a socket or a device; mend or remove it")
    run(on_bad_image="skip")
    assert "skipped: mine/cat/c.png is not a file but a pipe, a socket or a device\n" in capsys.readouterr().out
    assert rows() == described(TWO)
    assert sorted(set(opened)) == [f"mine/{path}" for path in sorted(TWO)]


def test_a_link_that_leads_nowhere_is_named():
    lay_out(TWO)
    os.symlink("gone.png", "mine/cat/c.png")
    assert refusal().startswith("mine/cat/c.png cannot be read (No such file or directory)")


def test_a_data_set_that_there_is_not():
    message = "params.yaml: dataset.name: must be one of digits, folder, list, shards, caltech256 (got 'digit')"
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
    assert refusal() == "mine holds one class (cat): there is nothing to tell apart, add a second one"


def test_an_empty_class():
    lay_out({**TWO, "eel": None})
    assert refusal() == "class 'eel' in mine holds no image: add some or remove the class"


def test_after_a_failure_what_was_written_is_that_of_before():
    lay_out(TWO)
    run()
    lay_out({"eel/a.png": b""})
    refusal()
    assert rows() == described(TWO)
    assert classes() == ["cat", "dog"]


def test_broken_off_while_it_writes_it_does_not_vouch_for_what_is_there(monkeypatch):
    lay_out(TWO)
    run()
    lay_out({"eel/a.png": image(4)})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(images.classes, "write", interrupted)
        run()
    os.rename("mine", "away")
    assert refusal() == "dataset.path: there is no folder mine"
    os.rename("away", "mine")
    run()
    assert classes() == ["cat", "dog", "eel"]


def interrupted(*_):
    raise KeyboardInterrupt


# What it opens


def test_a_second_look_opens_no_file(settled, opened):
    lay_out(TWO)
    settled()
    run()
    assert sorted(opened) == [f"mine/{path}" for path in sorted(TWO)]
    opened.clear()
    first = written()
    run()
    assert opened == []
    assert written() == first


def test_one_image_more_is_opened_alone(settled, opened):
    lay_out(TWO)
    settled()
    run()
    opened.clear()
    lay_out({"cat/c.png": image(4)})
    run()
    assert opened == ["mine/cat/c.png"]
    assert rows() == described({**TWO, "cat/c.png": image(4)})


def test_a_bad_image_is_known_too_and_complained_of_again(settled, opened):
    lay_out({**TWO, "cat/c.png": b""})
    settled()
    first = refusal()
    opened.clear()
    assert refusal() == first
    assert opened == []


def test_without_a_cache_all_are_opened_every_time(settled, opened, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "off")
    lay_out(TWO)
    settled()
    for _ in range(2):
        run()
    assert len(opened) == 2 * len(TWO)
    assert rows() == described(TWO)


@pytest.mark.parametrize("moved", [False, True], ids=["written over", "moved there"])
def test_a_file_replaced_right_after_the_look_by_one_of_the_same_size_is_noticed(moved):
    colours = [encoded(photo(seed, (12, 8)), "BMP") for seed in (1, 2)]
    assert len(colours[0]) == len(colours[1])
    lay_out({**TWO, "cat/c.bmp": colours[0]})
    run()
    times = os.stat("mine/cat/c.bmp")
    if moved:
        lay_out({"c.bmp": colours[1]}, ".")
        os.replace("c.bmp", "mine/cat/c.bmp")
    else:
        lay_out({"cat/c.bmp": colours[1]})
    os.utime("mine/cat/c.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    run()
    assert rows() == described({**TWO, "cat/c.bmp": colours[1]})


# Without the images


@pytest.fixture
def away():
    """The folder was looked at and is not there any more."""
    lay_out(TWO)
    run()
    os.rename("mine", "away")


def test_what_was_recorded_stays_and_one_line_says_so(away, capsys):
    before = written()
    capsys.readouterr()
    run()
    assert capsys.readouterr().out == f"mine is not there: going on with what {MANIFEST} recorded of it\n"
    assert written() == before


def test_how_bad_images_are_taken_does_not_matter_then(away):
    before = written()
    run(on_bad_image="skip")
    assert written() == before


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"path": "yours"}, "dataset.path: there is no folder yours"),
        ({"path": "./mine"}, "dataset.path: there is no folder mine"),
        ({"clutter": False}, "dataset.path: there is no folder mine"),
    ],
    ids=str,
)
def test_another_data_set_that_is_not_there_is_an_error(away, dataset, message):
    assert refusal(**dataset) == message


def test_another_source_of_the_same_path_was_not_recorded(away, monkeypatch):
    def find(chosen, index):
        raise InputError(f"looked for {chosen.name}")

    monkeypatch.setitem(images.table.SOURCES, "caltech256", images.table.SOURCES["caltech256"]._replace(find=find))
    assert refusal(name="caltech256") == "looked for caltech256"


@pytest.mark.parametrize("name", [MANIFEST, CLASSES, ORIGIN], ids=str)
def test_what_is_not_all_there_is_not_gone_on_with(away, name):
    name.unlink()
    assert refusal() == "dataset.path: there is no folder mine"


@pytest.mark.parametrize("name", [MANIFEST, CLASSES], ids=str)
def test_nor_is_what_is_not_as_it_was_written(away, name):
    name.write_bytes(name.read_bytes().replace(b"cat", b"bat"))
    assert refusal() == "dataset.path: there is no folder mine"


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"name": "folder", "path": "mine", "clutter": 1, "x": 2}'])
def test_nor_is_what_is_damaged(away, damage):
    ORIGIN.write_bytes(damage)
    assert refusal() == "dataset.path: there is no folder mine"


def test_once_the_images_are_back_they_are_looked_at(away):
    run()
    os.rename("away", "mine")
    lay_out({"cat/c.png": image(4)})
    run()
    assert rows() == described({**TWO, "cat/c.png": image(4)})


@pytest.mark.parametrize("backbone", [{"name": "resnet"}, {"cut": "fc6"}], ids=str)
def test_a_backbone_that_there_is_not_is_said_before_any_other_stage_runs(backbone):
    set_params(Path("params.yaml"), backbone=backbone)
    with pytest.raises(InputError, match=r"^params.yaml: backbone"):
        images.main()


# A list, and groups


def test_a_list_is_the_folder_whose_images_it_names():
    lay_out(TWO)
    run()
    folder = (rows(), classes())
    Path("mine/list.csv").write_text("path,class\n" + "".join(f"{path},{path.split('/')[0]}\n" for path in TWO))
    run(name="list", path="mine/list.csv")
    assert (rows(), classes()) == folder


def test_groups_and_splits_of_a_list_are_in_the_manifest():
    lay_out({**TWO, "cat/b.png": image(2)})
    cat, *_, dog = sorted(TWO)
    Path("list.tsv").write_text(f"path\tclass\tsplit\tgroup\nmine/{dog}\td\ttest\t\nmine/{cat}\tc\t\tp 1\n")
    run(name="list", path="list.tsv")
    assert [(row.class_name, row.group, row.split) for row in rows()] == [("c", "p 1", ""), ("d", "", "test")]
    assert classes() == ["c", "d"]


def test_a_folder_gets_groups_from_a_file():
    lay_out(TWO)
    cat, *_, dog = sorted(TWO)
    Path("groups.csv").write_text(f"path,group\n{dog},7\n")
    run(groups="groups.csv")
    assert [(row.path, row.group, row.split) for row in rows()] == [
        *((path, "", None) for path in sorted(TWO)[:-1]),
        (dog, "7", None),
    ]
    Path("groups.csv").write_text("path,group\ncat/none.png,7\n")
    assert refusal(groups="groups.csv").startswith("groups.csv names cat/none.png, which the data set does not have")
    run()
    assert {row.group for row in rows()} == {None}


def test_without_the_list_the_stage_goes_on_with_what_it_recorded(capsys):
    lay_out(TWO)
    Path("list.csv").write_text("path,class\n" + "".join(f"mine/{path},{path.split('/')[0]}\n" for path in TWO))
    run(name="list", path="list.csv")
    before = written()
    Path("list.csv").unlink()
    run(name="list", path="list.csv")
    assert written() == before
    assert capsys.readouterr().out.endswith(f"list.csv is not there: going on with what {MANIFEST} recorded of it\n")
    assert refusal(name="list", path="other.csv").startswith("dataset.path: there is no table other.csv")
