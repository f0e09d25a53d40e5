"""Worker processes on this machine: one for each device. See ``contract``."""

import contextlib
import multiprocessing
import os
import platform
import queue
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Optional

from stages.common.cores import cores
from stages.common.errors import InputError
from stages.common.processes import starting
from stages.engines.contract import Chunk, Engine, Result, Setup, Work, Worker
from stages.engines.tasks import IN_FLIGHT, Task, Tasks


def engine(devices: Sequence[str]) -> Engine:
    """An engine with one worker process for each of ``devices``; each gets its share of the cores as threads."""

    def run(work: Work[Chunk, Result]) -> Iterator[tuple[Worker, Chunk, Result]]:
        tasks = Tasks(work.chunks, work.describe)
        threads = max(1, cores(physical=False) // len(devices))
        processes = [_Process(work, device, threads) for device in devices]
        try:
            while True:
                for process, task in tasks.deal(processes, IN_FLIGHT):
                    process.give(task)
                busy: dict[Any, _Process[Chunk, Result]] = {
                    process.connection: process for process in processes if process.tasks
                }
                if not busy:
                    return
                for connection in wait(list(busy)):
                    yield from _answers(busy[connection], tasks)
        finally:
            for process in processes:
                process.stop()

    return run


class _Process(Generic[Chunk, Result]):
    """The process of one device, started when it is first given something, and the tasks it holds."""

    def __init__(self, work: Work[Chunk, Result], device: str, threads: int) -> None:
        self.work, self.device, self.threads = work, device, threads
        self.worker = Worker(platform.node(), device)
        self.tasks: deque[Task[Chunk]] = deque()
        self.process: Optional[SpawnProcess] = None
        self.connection: Optional[Connection[Any, Any]] = None

    def give(self, task: Task[Chunk]) -> None:
        if self.connection is None:
            self.connection = self._start()
        self.tasks.append(task)
        packed = self.work.packed(self.worker, task.chunk)
        # One that has died meanwhile is noticed where its results are awaited.
        with contextlib.suppress(OSError):
            self.connection.send(packed)

    def _start(self) -> "Connection[Any, Any]":
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self.work.setup, self.device, self.threads)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with _inherited(self.work.environment):
            self.process.start()
        theirs.close()
        return ours

    def stop(self) -> Optional[int]:
        """Ends the process, and leaves the tasks it had not finished; returns the exit code it had before, if any."""
        if self.process is None or self.connection is None:
            return None
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.process = self.connection = None
        return code


def _answers(process: _Process[Chunk, Result], tasks: Tasks[Chunk]) -> Iterator[tuple[Worker, Chunk, Result]]:
    """The result that ``process`` has sent; or its tasks are to be done again, if it has died."""
    assert process.connection is not None
    try:
        error, result = process.connection.recv()
    except (EOFError, OSError):
        code = process.stop()
        unfinished, process.tasks = process.tasks, deque()
        tasks.suspect(unfinished, f"{process.device}, exit code {code}")
        return
    if error:
        raise error
    yield process.worker, process.tasks.popleft().chunk, result


@contextlib.contextmanager
def _inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """For the processes started inside: the variables in ``environment``, and Ctrl-C left to the driver."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        with starting():
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _serve(connection: "Connection[Any, Any]", setup: Setup[Chunk, Result], device: str, threads: int) -> None:
    """A worker's life: sets up, then answers each chunk with (None, result) or (exception, None)."""
    chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
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


def _receive(connection: "Connection[Any, Any]", chunks: "queue.SimpleQueue[Chunk]") -> None:
    try:
        while True:
            chunks.put(connection.recv())
    except (EOFError, OSError):
        # The driver is gone, however it went; there is nobody to work for.
        os._exit(1)
