"""Processes of our own: Ctrl-C is for the one that starts them, and none outlives it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import wait


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """For the processes that are started inside: Ctrl-C is left to this one."""
    # multiprocessing starts a helper of its own with the first process, and unblocks Ctrl-C with it.
    resource_tracker.ensure_running()
    # Blocked, not ignored: this process gets a Ctrl-C that comes now when this is over, the others never.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_with_parent() -> None:
    """For the start of a process that ``multiprocessing`` makes: it ends when its parent is gone, however that went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(parent: int) -> None:
    wait([parent])
    os._exit(1)
