"""Progress bars."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from tests.conftest import ROOT

PROGRAM = """
from stages.common.progress import progress
for _ in progress(range(20), desc="looking", leave=False):
    pass
with progress(total=20, desc="working") as bar:
    bar.update(20)
print("done")
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_bars_are_for_terminals(terminal):
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    if terminal:
        assert "looking:   0%" in printed and "working: 100%" in printed
    else:
        assert printed == "done\n"
