"""What a command says to its user and reads from it. Each case is a process of its own, as commands are."""

import os
import subprocess

import pytest

from stages.common.streams import plain
from tests.common.test_errors import ENVIRONMENT, command, run


@pytest.mark.parametrize("what", ["print(1)", "print('x' * 100_000)", "raise SystemExit(0 * len(str(print(1))))"])
def test_a_full_disk_behind_the_output_is_one_sentence(tmp_path, what):
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(what), cwd=tmp_path, env=buffered(), stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: cannot write: No space left on device; make room there\n")


@pytest.mark.parametrize("what", ["print(1)", "print('x' * 100_000)", "print(1); raise SystemExit(0)"])
def test_a_reader_that_has_had_enough_hears_nothing(tmp_path, what):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command(what), cwd=tmp_path, env=buffered(), stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("closed", "what", "code", "said"),
    [
        (0, "input()", 1, b"error: standard input is closed: there is nothing to read\n"),
        (0, "print(1)", 0, b""),
        (1, "print(1)", 1, b"error: standard output is closed: let it go to a file, or to /dev/null\n"),
        (1, "pass", 0, b""),
        (2, "import sys; print(1, file=sys.stderr)", 0, b""),
    ],
)
def test_a_closed_stream_fails_when_it_is_used(tmp_path, closed, what, code, said):
    # A file that were opened under its number would get what a library writes there.
    what += f"\nimport os; assert os.open('file', os.O_CREAT) != {closed}"
    done = subprocess.run(
        command(what), cwd=tmp_path, env=buffered(), capture_output=True, preexec_fn=lambda: os.close(closed)
    )
    assert (done.returncode, done.stderr) == (code, said)


def test_what_terminals_obey_is_escaped_and_what_shows_progress_is_not(tmp_path):
    what = r"print('\x1b[31mcat\x9b\x7f\u202e', 'dög \t\u00a0🐈\r', sep='\n')"
    done = subprocess.run(command(what), cwd=tmp_path, env=buffered(), capture_output=True)
    assert done.stdout == "\\u001b[31mcat\\u009b\\u007f\\u202e\ndög \t\u00a0🐈\r\n".encode()


def test_what_an_encoding_lacks_is_escaped_and_bytes_of_names_are_kept(tmp_path):
    what = r"print('dög 🐈 \udcfc')"
    done = subprocess.run(command(what), cwd=tmp_path, env=buffered(PYTHONIOENCODING="ascii"), capture_output=True)
    assert done.stdout == b"d\\u00f6g \\ud83d\\udc08 \xfc\n"


def test_a_message_is_one_line(tmp_path):
    what = r"from stages.common.errors import InputError; raise InputError('a\nb \x1b[31m \udcfc')"
    assert run(what, tmp_path) == (1, "error: a\\nb \\u001b[31m \\xfc\n")
    assert plain("dög 🐈 \\") == "dög 🐈 \\"


def buffered(**variables):
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
    return {**environment, **variables}
