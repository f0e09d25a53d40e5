"""Chunks as an engine deals them out: each once, and again what a worker held that died."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Generic, Optional, Protocol, TypeVar

from stages.common.errors import InputError
from stages.engines.contract import Chunk

# Chunks a worker holds at a time: one to compute, one to decode, one on its way.
IN_FLIGHT = 3


class Task(Generic[Chunk]):
    """A chunk of work, and how many workers have died with it."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk, self.deaths = chunk, 0


class Holder(Protocol):
    """A worker, as far as dealing goes: it holds tasks."""

    @property
    def tasks(self) -> Collection[Task[Any]]: ...


AnyHolder = TypeVar("AnyHolder", bound=Holder)


class Tasks(Generic[Chunk]):
    """The tasks that no worker holds; true while there are any.

    chunks: iterable, read only as fast as the workers take them. describe(chunk): names it in an error.
    """

    def __init__(self, chunks: Iterable[Chunk], describe: Callable[[Chunk], str]) -> None:
        self._fresh: Iterator[Task[Chunk]] = map(Task, chunks)
        self._describe = describe
        self._again: deque[Task[Chunk]] = deque()
        self._suspects: deque[Task[Chunk]] = deque()

    def __bool__(self) -> bool:
        if not (self._again or self._suspects):
            self._again.extend([task] if (task := next(self._fresh, None)) else [])
        return bool(self._again or self._suspects)

    def deal(self, workers: Sequence[AnyHolder], most: int) -> Iterator[tuple[AnyHolder, Task[Chunk]]]:
        """Yields (worker, task) until each holds ``most`` tasks, evenly; a task yielded must go into worker.tasks."""
        for held in range(most):
            for worker in workers:
                if len(worker.tasks) == held and (task := self._next(worker)):
                    yield worker, task

    def _next(self, worker: Holder) -> Optional[Task[Chunk]]:
        if self._suspects and not worker.tasks:
            return self._suspects.popleft()
        # One that is suspected is alone in its worker.
        if any(task.deaths for task in worker.tasks):
            return None
        if self._again:
            return self._again.popleft()
        return next(self._fresh, None)

    def take_back(self, tasks: Iterable[Task[Chunk]]) -> None:
        """Tasks to be done again, whose worker was lost through no fault of theirs."""
        self._again.extend(tasks)

    def suspect(self, tasks: Collection[Task[Chunk]], last_words: str) -> None:
        """Tasks to be done again, each alone: their worker died, and one of them may be why.

        Raises InputError for a task with which a second worker died; ``last_words``: which, and what of.
        """
        for task in tasks:
            task.deaths += 1
            if task.deaths == 2:
                raise InputError(
                    f"two workers died (the last: {last_words}) while they worked on {self._describe(task.chunk)}: is "
                    "there memory enough? lower runtime.batch_size or runtime.workers, or take the images out"
                )
        self._suspects.extend(tasks)
