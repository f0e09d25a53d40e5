"""Worker processes: one per device, chunks in, results out. See ``tasks`` for what they are given."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from multiprocessing.connection import wait

import joblib

from stages.common.errors import InputError
from stages.engines.tasks import Tasks

# Chunks a worker holds at a time: one to compute, one to decode.
IN_FLIGHT = 2


class _Worker:
    """The process of one device, started when it is first given something, and the tasks it holds."""

    def __init__(self, setup, device, threads, environment):
        self.setup, self.device, self.threads, self.environment = setup, device, threads, environment
        self.tasks = deque()
        self.process = None

    def give(self, task):
        if self.process is None:
            self._start()
        self.tasks.append(task)
        # One that has died meanwhile is noticed where its results are awaited.
        with contextlib.suppress(OSError):
            self.connection.send(task.chunk)

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.setup, self.device, self.threads), daemon=True)
        with _inherited(self.environment):
            self.process.start()
        theirs.close()

    def stop(self):
        """Ends the process; returns the tasks it had not finished."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None
        unfinished, self.tasks = self.tasks, deque()
        return unfinished


def run(setup, devices, chunks, environment=None, describe=repr):
    """Yields (chunk, result) for every chunk, as the results come.

    setup, chunks, describe: see ``tasks``. devices: one worker is kept for each, with its share of the cores as
    threads. environment: variables set for the workers before they start.

    The chunks of a worker that dies are done again, each alone in a worker; a chunk with which a second worker
    dies raises InputError with ``describe(chunk)``. An InputError in a worker is raised here as it is.
    """
    tasks = Tasks(chunks, describe)
    threads = max(1, joblib.cpu_count() // len(devices))
    workers = [_Worker(setup, device, threads, environment or {}) for device in devices]
    try:
        while True:
            for worker, task in tasks.deal(workers, IN_FLIGHT):
                worker.give(task)
            busy = {worker.connection: worker for worker in workers if worker.tasks}
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = busy[connection]
                try:
                    error, result = connection.recv()
                except (EOFError, OSError):
                    code = worker.process.exitcode
                    tasks.suspect(worker.stop(), f"{worker.device}, exit code {code}")
                    continue
                if error:
                    raise error
                yield worker.tasks.popleft().chunk, result
    finally:
        for worker in workers:
            worker.stop()


@contextlib.contextmanager
def _inherited(environment):
    """For the processes started inside: the variables in ``environment``, and Ctrl-C left to the driver."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    # Blocked, not ignored: the driver gets a Ctrl-C that comes now when this is over, the processes never.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _serve(connection, setup, device, threads):
    """A worker's life: sets up, then answers each chunk with (None, result) or (exception, None)."""
    chunks = queue.SimpleQueue()
    # The pipe is always drained, so the driver never waits to hand a chunk over.
    threading.Thread(target=_receive, args=(connection, chunks), daemon=True).start()
    try:
        start = setup(device, threads)
        finish = None
        while True:
            if finish and chunks.empty():
                connection.send((None, finish()))
                finish = None
            begun = start(chunks.get())
            if finish:
                connection.send((None, finish()))
            finish = begun
    except InputError as error:
        connection.send((error, None))
    except Exception:
        connection.send((RuntimeError(f"in the worker on {device}:\n{traceback.format_exc()}"), None))


def _receive(connection, chunks):
    try:
        while True:
            chunks.put(connection.recv())
    except (EOFError, OSError):
        # The driver is gone, however it went; there is nobody to work for.
        os._exit(1)
