"""The index of files: what it is told it tells, for unchanged files alone; damage makes it forget, never lie."""

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.common.caches import sqlite
from stages.dataset.sources.files import index as module
from stages.dataset.sources.files.index import Entry, Index, Known
from stages.dataset.sources.files.stamps import Stamp, settled, stamp_of
from tests.damage import SOAK

ROOT = Path(module.__file__).parents[3]
SECOND = 10**9
LONG_AGO = 1_600_000_000 * SECOND
NOW = 1_700_000_000 * SECOND


def entry(number, complaint=None):
    known = Known(hashlib.sha256(b"%d" % number).hexdigest(), complaint, "2")
    return Entry(b"/photos/%05d.jpg" % number, Stamp(number, LONG_AGO, LONG_AGO + number, number), NOW, known)


ENTRIES = [entry(number) for number in range(100)]


def stamps(entries):
    return {entry.key: entry.stamp for entry in entries}


def known(entries):
    return {entry.key: entry.known for entry in entries}


@pytest.fixture
def file(tmp_path, index):
    """The database, with ENTRIES in it and closed."""
    index.keep(ENTRIES)
    index.close()
    return tmp_path / "cache" / module.FILE


# What is known


def test_what_is_kept_is_known_in_other_processes_too(index, tmp_path):
    assert index.known(stamps(ENTRIES)) == {}
    index.keep(ENTRIES)
    assert index.known(stamps(ENTRIES)) == known(ENTRIES)
    assert Index(tmp_path / "cache").known(stamps(ENTRIES[5:7])) == known(ENTRIES[5:7])
    assert index.known({}) == {}


def test_a_complaint_is_kept_too(index):
    index.keep([entry(1, "is damaged (naïve \u2028)")])
    assert index.known(stamps(ENTRIES))[ENTRIES[1].key].complaint == "is damaged (naïve \u2028)"


@pytest.mark.parametrize("field", Stamp._fields)
def test_a_file_with_another_stamp_is_not_known(index, field):
    index.keep(ENTRIES)
    other = ENTRIES[3].stamp._replace(**{field: 12345})
    assert index.known({ENTRIES[3].key: other, ENTRIES[4].key: ENTRIES[4].stamp}) == known(ENTRIES[4:5])


def test_what_is_kept_replaces_what_was_known(index):
    index.keep(ENTRIES)
    changed = ENTRIES[3]._replace(stamp=Stamp(1, 2, 3, 4), known=Known("ab" * 32, None, "3"))
    index.keep([changed])
    assert index.known(stamps([changed])) == known([changed])
    assert index.known(stamps([ENTRIES[3]])) == {}
    assert index.count() == len(ENTRIES)


def test_few_among_many_and_many_are_found(index, monkeypatch):
    monkeypatch.setattr(module, "ASKED", 7)
    index.keep(ENTRIES)
    for some in (ENTRIES[::33], ENTRIES[:1], ENTRIES[2:9], ENTRIES[::-2], ENTRIES):
        strangers = [entry(number) for number in (1000, 1001)]
        assert index.known(stamps([*some, *strangers])) == known(some)


def test_names_may_be_any_bytes(index):
    odd = [ENTRIES[0]._replace(key=key) for key in (b"/\xff\n", "/日本".encode(), b"/a.tar\x00512 100", b"/a.tar")]
    index.keep(odd)
    assert index.known(stamps(odd)) == known(odd)


def test_an_inode_may_have_all_64_bits(tmp_path, index):
    values = list(os.stat(tmp_path))
    values[1] = 2**64 - 1
    stamp = stamp_of(os.stat_result(values + [0.0] * 3 + [1, 2, 3]))
    big = ENTRIES[0]._replace(stamp=stamp, read=NOW * 10)
    index.keep([big])
    assert index.known({big.key: stamp}) == known([big])


# What is not kept


@pytest.mark.parametrize(
    ("modified", "changed", "wanted"),
    [
        (-3600, -3600, True),
        (-3600, -4, True),
        (-4, -3600, True),
        (-3600, -2, False),  # within the tick of a coarse clock
        (-2, -3600, False),
        (0, 0, False),
        (1, 1, False),  # by a server whose clock is ahead
        (3600, 3600, False),
        (3600, -3600, True),  # a date set by hand
        (3600, -1, False),
        (-3600, 1, False),  # put there meanwhile, as `cp -p` does
        (1, -3600, True),
    ],
)
def test_what_was_read_just_after_a_change_is_not_settled(index, modified, changed, wanted):
    stamp = Stamp(10, NOW + modified * SECOND, NOW + changed * SECOND, 1)
    assert settled(stamp, NOW) == wanted
    index.keep([ENTRIES[0]._replace(stamp=stamp), ENTRIES[1]])
    assert index.known({ENTRIES[0].key: stamp, ENTRIES[1].key: ENTRIES[1].stamp}) == known(
        [ENTRIES[0]] * wanted + ENTRIES[1:2]
    )


def test_without_a_folder_nothing_is_kept():
    index = Index(None)
    index.keep(ENTRIES)
    assert index.known(stamps(ENTRIES)) == {}
    assert index.count() == index.prune() == 0
    index.close()


# Damage


def lies(index):
    """What the index tells that is not so. Asked for all entries, and for all as if they had changed."""
    told = index.known(stamps(ENTRIES))
    changed = index.known({key: stamp._replace(changed=7) for key, stamp in stamps(ENTRIES).items()})
    return {key: value for key, value in told.items() if known(ENTRIES)[key] != value} or changed


@pytest.mark.parametrize(
    "data", [b"", b"not a database" * 1000, b"SQLite format 3\0" + bytes(5000)], ids=["empty", "text", "zeros"]
)
def test_what_is_no_database_is_begun_anew(file, index, data, capsys):
    file.write_bytes(data)
    assert index.known(stamps(ENTRIES)) == {}
    index.keep(ENTRIES)
    assert index.known(stamps(ENTRIES)) == known(ENTRIES)
    said = capsys.readouterr().err
    assert said.count("\n") == (1 if data else 0)
    assert not data or (said.startswith(f"the index {file} is damaged (") and said.endswith("and is begun anew\n"))


def test_a_database_of_other_tables_is_begun_anew(file, index, capsys):
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE files (key, value)")
    connection.close()
    index.keep(ENTRIES)
    assert index.known(stamps(ENTRIES)) == known(ENTRIES)
    assert "is damaged (its tables are of another form) and is begun anew" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["size", "modified", "changed", "inode", "sha256", "complaint", "decoder", "crc"])
@pytest.mark.parametrize("value", [None, 7, 1.5, "text", b"bytes", b"\xff" * 32], ids=ascii)
def test_an_entry_that_was_changed_is_none(file, index, column, value):
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(f"UPDATE files SET {column} = ? WHERE key = ?", [value, ENTRIES[3].key])
    connection.close()
    assert index.known(stamps(ENTRIES)) == known(ENTRIES[:3] + ENTRIES[4:])
    assert index.prune() == len(ENTRIES) and index.count() == 0


def test_an_entry_under_another_key_is_none(file, index):
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("DELETE FROM files WHERE key = ?", [ENTRIES[4].key])
        connection.execute("UPDATE files SET key = ? WHERE key = ?", [ENTRIES[4].key, ENTRIES[3].key])
    connection.close()
    assert index.known({ENTRIES[4].key: ENTRIES[3].stamp}) == {}


def test_a_place_that_cannot_be_used_is_told_once(tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    index = Index(tmp_path / "cache")
    for _ in range(2):
        index.keep(ENTRIES)
        assert index.known(stamps(ENTRIES)) == {}
    assert capsys.readouterr().err.count("cannot be used") == 1


def test_a_full_disk_loses_nothing_that_was_known(file, index, capsys):
    index.known({})
    index.known(stamps(ENTRIES))
    index._kept._opened.execute("PRAGMA max_page_count = 10")
    index.keep(entry(number) for number in range(200, 2000))
    assert "cannot be used (database or disk is full)" in capsys.readouterr().err
    assert Index(file.parent).known(stamps(ENTRIES)) == known(ENTRIES)


# Other processes


def test_while_another_process_writes_nothing_is_kept_and_nothing_lost(file, index, monkeypatch, capsys):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.01)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    index.keep([entry(200)])
    assert index.count() == len(ENTRIES)
    other.execute("ROLLBACK")
    other.close()
    assert index.known(stamps(ENTRIES)) == known(ENTRIES)
    assert capsys.readouterr().err == ""


def test_many_write_at_once(tmp_path):
    parts = [ENTRIES[number::5] for number in range(5)]

    def write(part):
        index = Index(tmp_path)
        for one in part:
            index.keep([one])
            assert not lies(index)
        index.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, parts))
    assert Index(tmp_path).known(stamps(ENTRIES)) == known(ENTRIES)


@pytest.mark.soak
def test_a_process_that_is_killed_leaves_whole_transactions(tmp_path):
    code = f"""
from stages.dataset.sources.files.index import Index
from tests.dataset.test_index import ENTRIES
index = Index(__import__("pathlib").Path({str(tmp_path)!r}))
print("ready", flush=True)
while True:
    index.keep(ENTRIES[:50])
    index.keep(ENTRIES[50:])
"""
    chance = random.Random(0)
    for _ in range(3 * SOAK):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(chance.uniform(0.02, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        index = Index(tmp_path)
        assert not lies(index)
        assert len(index.known(stamps(ENTRIES))) in (0, 50, 100)
        index.close()


# The whole


def test_what_is_gone_or_changed_is_pruned(tmp_path, index):
    entries = []
    for name in ("same", "changed", "gone", "archive"):
        path = tmp_path / name
        path.write_text(name)
        entries.append(ENTRIES[0]._replace(key=os.fsencode(path), stamp=stamp_of(path.stat()), read=NOW * 10))
    entries[3] = entries[3]._replace(key=entries[3].key + b"\x00512 100")
    index.keep(entries)
    assert index.count() == 4
    (tmp_path / "changed").write_text("otherwise")
    (tmp_path / "gone").unlink()
    assert index.prune() == 2
    assert index.known(stamps(entries)) == known([entries[0], entries[3]])
    assert index.count() == 2
