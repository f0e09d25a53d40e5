"""Worker processes: one per device, chunks in, results out.

A chunk is any picklable value. ``setup(device)`` runs once in each worker and returns ``start(chunk)``, which
begins the work on a chunk and returns a function that waits for its result; so a worker decodes the next chunk
while its device still computes the last.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from multiprocessing.connection import wait

from stages.errors import InputError

# Chunks a worker holds at a time: one to compute, one to decode.
IN_FLIGHT = 2


class _Task:
    def __init__(self, chunk):
        self.chunk, self.deaths = chunk, 0


class _Worker:
    """The process of one device, started when it is first given something, and the tasks it holds."""

    def __init__(self, setup, device, environment):
        self.setup, self.device, self.environment = setup, device, environment
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
        self.process = context.Process(target=_serve, args=(theirs, self.setup, self.device), daemon=True)
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

    devices: one worker is kept for each and gets it as ``setup``'s argument. chunks: iterable, read only as fast as
    the workers take them. environment: variables set for the workers before they start.

    The chunks of a worker that dies are done again, each alone in a worker; a chunk with which a second worker
    dies raises InputError with ``describe(chunk)``. An InputError in a worker is raised here as it is.
    """
    fresh = map(_Task, chunks)
    suspects = deque()
    workers = [_Worker(setup, device, environment or {}) for device in devices]
    try:
        while True:
            while sum(_feed(worker, fresh, suspects) for worker in workers):
                pass
            busy = {worker.connection: worker for worker in workers if worker.tasks}
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = busy[connection]
                try:
                    error, result = connection.recv()
                except (EOFError, OSError):
                    code = worker.process.exitcode
                    suspects.extend(_suspected(worker.stop(), worker.device, code, describe))
                    continue
                if error:
                    raise error
                yield worker.tasks.popleft().chunk, result
    finally:
        for worker in workers:
            worker.stop()


def _feed(worker, fresh, suspects):
    """Gives ``worker`` one task if it can hold one more and there is one; says whether it did."""
    if not worker.tasks and suspects:
        worker.give(suspects.popleft())
        return True
    alone = any(task.deaths for task in worker.tasks)
    task = None if alone or len(worker.tasks) == IN_FLIGHT else next(fresh, None)
    if task:
        worker.give(task)
    return task is not None


def _suspected(tasks, device, exitcode, describe):
    for task in tasks:
        task.deaths += 1
        if task.deaths == 2:
            raise InputError(
                f"two workers died (the last on {device}, exit code {exitcode}) while they worked on "
                f"{describe(task.chunk)}: is there memory enough? lower runtime.batch_size or runtime.workers, "
                "or take the images out"
            )
    return tasks


@contextlib.contextmanager
def _inherited(environment):
    """For the processes started inside: the variables in ``environment``, and Ctrl-C left to the driver."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()


def _serve(connection, setup, device):
    """A worker's life: sets up, then answers each chunk with (None, result) or (exception, None)."""
    chunks = queue.SimpleQueue()
    # The pipe is always drained, so the driver never waits to hand a chunk over.
    threading.Thread(target=_receive, args=(connection, chunks), daemon=True).start()
    try:
        start = setup(device)
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
