"""Chunks as an engine deals them out: each once, and again what a worker held that died.

``setup(device, threads)`` is what an engine is given. It runs once in each worker and returns ``start(chunk)``,
which begins the work on a chunk and returns a function that waits for its result; so a worker decodes the next chunk
while its device still computes the last. A chunk is any picklable value.
"""

from collections import deque

from stages.common.errors import InputError


class _Task:
    def __init__(self, chunk):
        self.chunk, self.deaths = chunk, 0


class Tasks:
    """The tasks that no worker holds; true while there are any. A task's ``chunk`` is the work.

    chunks: iterable, read only as fast as the workers take them. describe(chunk): names it in an error.
    """

    def __init__(self, chunks, describe):
        self._fresh, self._describe = map(_Task, chunks), describe
        self._again, self._suspects = deque(), deque()

    def __bool__(self):
        if not (self._again or self._suspects):
            self._again.extend([task] if (task := next(self._fresh, None)) else [])
        return bool(self._again or self._suspects)

    def deal(self, workers, most):
        """Yields (worker, task) until each holds ``most`` tasks, evenly; a task yielded must go into worker.tasks."""
        for held in range(most):
            for worker in workers:
                if len(worker.tasks) == held and (task := self._next(worker)):
                    yield worker, task

    def _next(self, worker):
        if self._suspects and not worker.tasks:
            return self._suspects.popleft()
        # One that is suspected is alone in its worker.
        if any(task.deaths for task in worker.tasks):
            return None
        return self._again.popleft() if self._again else next(self._fresh, None)

    def take_back(self, tasks):
        """Tasks to be done again, whose worker was lost through no fault of theirs."""
        self._again.extend(tasks)

    def suspect(self, tasks, last_words):
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
