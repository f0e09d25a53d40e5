"""What a look at images tells, and which of them it reads."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL
import pytest

from bench.pictures import encoded, photo
from stages.common.errors import InputError
from stages.dataset import looking
from stages.dataset.looking import Place, Seen, look
from stages.dataset.sources.files import decode, stamps
from stages.dataset.sources.files.index import Index

ROOT = Path(looking.__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settled(monkeypatch):
    """Files need not be seconds old to be kept: this file system's clock ticks some hundred times a second."""
    monkeypatch.setattr(stamps, "TICK", 0)
    return lambda: time.sleep(0.03)


@pytest.fixture
def opened(monkeypatch):
    """The paths that were read in this process since it was cleared."""
    paths, read = [], looking.read

    def note(place):
        paths.append(place.path)
        return read(place)

    monkeypatch.setattr(looking, "read", note)
    return paths


def picture(seed):
    return encoded(photo(seed, (12, 8)), "PNG")


def lay_out(files):
    for path, data in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    return [Place(path) for path in files]


def seen(data, complaint=None):
    return Seen(hashlib.sha256(data).hexdigest(), len(data), complaint)


FILES = {f"mine/{name}": picture(seed) for seed, name in enumerate(["cat/a.png", "cat/ü b.png", "dog/-a"])}


# What it tells


def test_digest_and_size_of_every_file_in_order(index):
    assert look(lay_out(FILES), index) == [seen(data) for data in FILES.values()]
    assert look(lay_out(FILES)[::-1], Index(None)) == [seen(data) for data in FILES.values()][::-1]
    assert look([], index) == []


def test_what_is_no_image_has_a_complaint_without_a_subject(index):
    bad = {
        "mine/a": (b"", "is empty (0 bytes)"),
        "mine/b": (b"text", "is not an image of a kind that can be read"),
    }
    places = lay_out({path: data for path, (data, _) in bad.items()})
    assert look(places, index) == [seen(*what) for what in bad.values()]


def test_what_cannot_be_read_has_no_digest(index):
    os.makedirs("mine/folder")
    os.mkfifo("mine/pipe")
    os.symlink("gone", "mine/link")
    found = look([Place(f"mine/{name}") for name in ("folder", "pipe", "link", "none")], index)
    assert [(one.sha256, one.size) for one in found] == [("", 0)] * 4
    assert [one.complaint for one in found] == [
        "is a folder: images lie directly in their class's folder",
        "is not a file but a pipe, a socket or a device",
        "cannot be read (No such file or directory)",
        "cannot be read (No such file or directory)",
    ]


def test_many_are_read_by_several_processes_in_order(index, settled, monkeypatch):
    monkeypatch.setattr(looking, "KEPT", 7)
    places = lay_out({f"mine/{n:03}.png": picture(n) for n in range(2 * looking.CHUNK + 5)})
    settled()
    wanted = [seen(picture(n)) for n in range(len(places))]
    assert look(places, index) == wanted
    assert index.count() == len(places)
    monkeypatch.setattr(looking, "read", None)
    assert look(places, index) == wanted


def test_parts_of_an_archive(index, settled, opened):
    parts = [picture(1), b"no picture", picture(2)]
    lay_out({"mine/a.tar": b"-".join(parts)})
    settled()
    starts = [0, len(parts[0]) + 1, len(parts[0]) + len(parts[1]) + 2]
    places = [Place("mine/a.tar", start, len(part)) for start, part in zip(starts, parts)]
    wanted = [seen(parts[0]), seen(parts[1], "is not an image of a kind that can be read"), seen(parts[2])]
    assert look(places, index) == wanted
    assert opened == ["mine/a.tar"] * 3
    assert look(places, index) == wanted
    assert len(opened) == 3
    assert look([Place("mine/a.tar", starts[2], len(parts[2]) + 1)], index)[0].complaint == "is cut short"
    os.utime("mine/a.tar")
    assert look(places, index) == wanted
    assert len(opened) == 7


# What it reads


def test_unchanged_files_are_not_read_again(index, settled, opened):
    places = lay_out({**FILES, "mine/bad": b"x"})
    settled()
    first = look(places, index)
    opened.clear()
    assert look(places, index) == first
    assert opened == []


def test_one_more_is_read_alone(index, settled, opened):
    places = lay_out(FILES)
    settled()
    look(places, index)
    opened.clear()
    places += lay_out({"mine/cat/c.png": picture(9)})
    assert look(places, index)[-1] == seen(picture(9))
    assert opened == ["mine/cat/c.png"]


def test_files_are_known_by_every_name_of_their_folders(index, settled, opened):
    lay_out(FILES)
    os.symlink("mine", "linked")
    settled()
    look([Place(path) for path in FILES], index)
    opened.clear()
    root = os.getcwd()
    for prefix in ("./", "linked/../", f"{root}/", f"{root}/linked/../"):
        look([Place(prefix + path) for path in FILES], index)
    look([Place(path.replace("mine", "linked")) for path in FILES], index)
    os.chdir("mine/cat")
    look([Place("a.png")], index)
    assert opened == []


def test_a_link_is_known_until_it_leads_elsewhere(index, settled, opened):
    lay_out(FILES)
    os.symlink("mine/cat/a.png", "link")
    settled()
    for _ in range(2):
        assert look([Place("link")], index) == [seen(FILES["mine/cat/a.png"])]
    assert opened == ["link"]
    os.remove("link")
    os.symlink("mine/dog/-a", "link")
    assert look([Place("link")], index) == [seen(FILES["mine/dog/-a"])]


SAME_SIZE = [b"red  ", b"green"]


def replaced_in_place(path):
    with open(path, "r+b") as file:
        file.write(SAME_SIZE[1])


def replaced_by_another(path):
    with open("other", "wb") as file:
        file.write(SAME_SIZE[1])
    os.replace("other", path)


@pytest.mark.parametrize("replace", [replaced_in_place, replaced_by_another])
def test_a_file_of_the_same_size_and_time_is_noticed(index, settled, replace):
    places = lay_out({"mine/a": SAME_SIZE[0]})
    settled()
    assert look(places, index)[0].sha256 == hashlib.sha256(SAME_SIZE[0]).hexdigest()
    times = os.stat("mine/a")
    settled()
    replace("mine/a")
    os.utime("mine/a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert look(places, index)[0].sha256 == hashlib.sha256(SAME_SIZE[1]).hexdigest()


@pytest.mark.parametrize("tick", [1, 10**7, 2 * 10**9], ids=["nanosecond", "kernel", "FAT"])
@pytest.mark.parametrize("replace", [replaced_in_place, replaced_by_another])
def test_a_file_replaced_right_after_the_look_is_noticed(index, monkeypatch, tick, replace):
    # Whatever the file system's clock, and were it to give the new file the old one's inode.
    def coarse(stat):
        stamp = stamp_of(stat)
        return stamp._replace(modified=stamp.modified // tick * tick, changed=stamp.changed // tick * tick, inode=1)

    stamp_of = looking.stamp_of
    monkeypatch.setattr(looking, "stamp_of", coarse)
    for _ in range(20):
        places = lay_out({"mine/a": SAME_SIZE[0]})
        assert look(places, index)[0].sha256 == hashlib.sha256(SAME_SIZE[0]).hexdigest()
        replace("mine/a")
        assert look(places, index)[0].sha256 == hashlib.sha256(SAME_SIZE[1]).hexdigest()


def test_a_file_that_changes_while_it_is_read_is_not_kept(index, settled, monkeypatch):
    places = lay_out(FILES)
    settled()
    stamp_of = looking.stamp_of
    monkeypatch.setattr(looking, "stamp_of", lambda stat: stamp_of(stat)._replace(changed=time.monotonic_ns()))
    assert look(places, index) == [seen(data) for data in FILES.values()]
    assert index.count() == 0


def test_another_decoder_looks_again_and_another_pillow_at_what_was_refused(index, settled, opened, monkeypatch):
    places = lay_out({**FILES, "mine/bad": b"x"})
    settled()
    look(places, index)
    opened.clear()
    monkeypatch.setattr(PIL, "__version__", "99")
    look(places, index)
    assert opened == ["mine/bad"]
    look(places, index)
    assert opened == ["mine/bad"]
    monkeypatch.setattr(decode, "VERSION", 99)
    look(places, index)
    assert len(opened) == 1 + len(places)


# What is broken off


def test_what_was_read_before_it_broke_off_is_kept(index, settled, monkeypatch):
    places = lay_out(FILES)
    settled()
    read = looking.read

    def broken(place):
        if place == places[2]:
            raise KeyboardInterrupt
        return read(place)

    monkeypatch.setattr(looking, "read", broken)
    with pytest.raises(KeyboardInterrupt):
        look(places, index)
    assert index.count() == 2


def kill_itself(place):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told_in_one_sentence(index, monkeypatch):
    places = lay_out({f"mine/{n:03}.png": b"x" for n in range(2 * looking.CHUNK)})
    monkeypatch.setattr(looking, "read", kill_itself)
    with pytest.raises(InputError, match="^a process that was reading images was killed, perhaps for want of memory$"):
        look(places, index)


LOOKING = """
import signal, sys, time
from pathlib import Path
from stages.common.errors import run
from stages.dataset import looking
from stages.dataset.sources.files import decode
from stages.dataset.sources.files.index import Index

def slow(data, name):
    print("reading", flush=True)
    time.sleep(0.01)

decode.decode = slow
signal.signal(signal.SIGINT, signal.default_int_handler)
places = [looking.Place(str(path)) for path in sorted(Path(sys.argv[1]).iterdir())]
run(lambda: looking.look(places, Index(None)) and None)
"""


@pytest.fixture
def looking_process(tmp_path):
    """A process that looks at so many images that it does so for long."""
    lay_out({f"mine/{n:04}.png": b"x" for n in range(2000)})
    process = subprocess.Popen(
        [sys.executable, "-c", LOOKING, str(tmp_path / "mine")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline().startswith("reading")
    return process


def test_an_interrupt_ends_all_processes_without_a_word_of_theirs(looking_process):
    os.killpg(looking_process.pid, signal.SIGINT)
    _, said = looking_process.communicate(timeout=10)
    assert looking_process.returncode != 0
    assert "Traceback" not in said and said.endswith(
        "interrupted: nothing half-written is kept; the same command starts again\n"
    )


def test_no_process_outlives_the_one_that_started_it(looking_process):
    looking_process.kill()
    # Each has the output open.
    looking_process.communicate(timeout=10)
