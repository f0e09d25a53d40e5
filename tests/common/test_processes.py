"""Ctrl-C while processes of our own start."""

import subprocess
import sys

PROGRAM = """
import multiprocessing, signal
from stages.common.processes import starting

def blocked(answer):
    answer.send(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        ours, theirs = context.Pipe()
        with starting():
            process = context.Process(target=blocked, args=(theirs,))
            process.start()
        print(signal.SIGINT in ours.recv(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        process.join()
"""


def test_every_process_has_ctrl_c_blocked_from_its_first_moment_and_its_driver_has_not(tmp_path):
    # A program of its own: the first process that it starts is the one that mattered.
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    printed = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=True, env={"PYTHONPATH": "."}
    )
    assert printed.stdout.splitlines() == ["True False"] * 2
