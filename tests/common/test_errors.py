"""What a user sees when a command fails. Each case is a process of its own, as commands are."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from stages.common import errors

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def command(program):
    """The text of a program as a command: Python's arguments for it."""
    return [
        sys.executable,
        "-c",
        f"from stages.common.errors import run\ndef main():\n{indent(program, '    ')}\nrun(main)",
    ]


def run(program, folder):
    """Runs the text of a program as a command in ``folder``; returns (exit code, stderr)."""
    done = subprocess.run(command(program), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_an_input_error_is_one_sentence(tmp_path):
    code, printed = run(
        "from stages.common.errors import InputError\nraise InputError('cat/a.jpg is empty (0 bytes)')", tmp_path
    )
    assert (code, printed) == (1, "error: cat/a.jpg is empty (0 bytes)\n")


def test_so_is_one_that_came_of_another_error(tmp_path):
    program = """
from stages.common.errors import InputError
try:
    1 / 0
except ZeroDivisionError as error:
    raise InputError("no images") from error
"""
    assert run(program, tmp_path) == (1, "error: no images\n")


def test_a_stage_without_params_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stages.split"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "error: there is no params.yaml here: run this from the root of the repository\n"


def test_ctrl_c_is_one_sentence_and_fails(tmp_path):
    program = "import time; print('ready'); time.sleep(60)"
    process = subprocess.Popen(
        command(program),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=30)
    assert process.returncode != 0
    assert printed == "interrupted: nothing half-written is kept; the same command starts again\n"


def test_ctrl_c_while_a_command_imports_ends_it_without_a_word(tmp_path):
    # Where MXNet, say, is imported with other packages, their code in C may turn an interruption into another error.
    (tmp_path / "yaml.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "stages.split"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_a_full_disk_is_one_sentence(tmp_path):
    program = "open('/dev/full', 'w', buffering=1).write('text\\n')"
    code, printed = run(program, tmp_path)
    assert code == 1
    assert printed.startswith("error: cannot write: No space left on device; ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("ENOSPC", "cannot write train.rec.tmp: No space left on device; make room there"),
        ("EDQUOT", "cannot write train.rec.tmp: Disk quota exceeded; make room there"),
        ("EFBIG", "cannot write train.rec.tmp: File too large; make room there"),
        ("EROFS", "cannot write train.rec.tmp: Read-only file system; choose a place that can be written to"),
        ("EACCES", "cannot use train.rec.tmp: Permission denied; mend the rights there"),
        ("EPERM", "cannot use train.rec.tmp: Operation not permitted; mend the rights there"),
        ("EISDIR", "cannot use train.rec.tmp: Is a directory; something of another kind is in its place"),
        ("ENOTDIR", "cannot use train.rec.tmp: Not a directory; something of another kind is in its place"),
        ("ENAMETOOLONG", "cannot use train.rec.tmp: File name too long; choose a shorter name"),
    ],
)
def test_a_place_that_cannot_be_used_is_named_with_what_to_do(number, said):
    number = getattr(errno, number)
    assert errors._sentence(OSError(number, os.strerror(number), "train.rec.tmp")) == f"error: {said}"


def test_too_little_memory_is_one_sentence(tmp_path):
    code, printed = run("bytes(1 << 60)", tmp_path)
    assert code == 1
    assert printed.startswith("error: there is not memory enough: lower runtime.workers ")
    assert printed.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_named(tmp_path):
    (tmp_path / "metrics").mkdir(mode=0o500)
    code, printed = run(
        "from stages.common.disk.files import write_text\nwrite_text('metrics/a', 'b')",
        tmp_path,
    )
    assert code == 1
    assert printed.startswith("error: cannot use metrics/a.tmp: Permission denied; ")


@pytest.mark.parametrize(
    ("program", "last"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("open('nothing')", "FileNotFoundError: [Errno 2] No such file or directory: 'nothing'"),
        ("{}['dim']", "KeyError: 'dim'"),
    ],
)
def test_what_is_our_own_mistake_keeps_its_traceback(tmp_path, program, last):
    code, printed = run(program, tmp_path)
    assert code == 1
    assert printed.startswith("Traceback (most recent call last):")
    assert printed.rstrip().endswith(last)


def test_an_exit_stays_an_exit(tmp_path):
    assert run("raise SystemExit(3)", tmp_path) == (3, "")
