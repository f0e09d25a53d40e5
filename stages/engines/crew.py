"""The workers of a driver on a Ray cluster: those that wait for a place, and those that have one."""

import math
import pickle
import sys
import time
from collections.abc import Collection
from typing import Any, Generic, Literal, Union

from stages.common.errors import InputError
from stages.engines.actor import Actor
from stages.engines.cluster import line, share
from stages.engines.contract import Chunk, Work, Worker
from stages.engines.tasks import IN_FLIGHT, Task

Workers = Union[int, Literal["auto"]]

# Seconds between two looks at what is free on the cluster.
LOOK = 1

# Seconds without any worker after which that is said.
PATIENCE = 15

# Workers that may die one after the other before any of them has begun.
STILLBORN = 3


class Member(Generic[Chunk]):
    """The driver's view of an actor: the tasks it holds by the reference to their result, and its node."""

    def __init__(self, actor: Any, worker: Worker) -> None:
        self.actor, self.worker = actor, worker
        self.awaited: dict[Any, Task[Chunk]] = {}

    @property
    def tasks(self) -> Collection[Task[Chunk]]:
        return self.awaited.values()


class Crew(Generic[Chunk]):
    """The actors: those that wait for a place on the cluster, and those that have one."""

    def __init__(self, ray: Any, work: Work[Chunk, Any], kind: str, workers: Workers) -> None:
        self.ray = ray
        self.packed = work.packed
        self.device, self.needs = share(ray, kind)
        self.limit = work.count if workers == "auto" else min(work.count, workers)
        # Asked for at once, a number tells a cluster that grows on demand how far to grow.
        self.eager = workers != "auto"
        self.actor_class = ray.remote(Actor).options(
            num_cpus=self.needs["CPU"], num_gpus=self.needs.get("GPU", 0), max_concurrency=IN_FLIGHT
        )
        # In a list, Ray hands the reference on as it is and each worker fetches the object itself. Pickled here, what
        # goes wrong in unpickling is an exception like any other in a worker: no MXNet there, say.
        self.setup = [ray.put(ray.cloudpickle.dumps(work.setup))]
        self.asked: dict[Any, Any] = {}
        self.placed: list[Member[Chunk]] = []
        # By reference: whose result it is, and whose sign of life.
        self.busy: dict[Any, Member[Chunk]] = {}
        self.silent: dict[Any, Member[Chunk]] = {}
        self.looked, self.stillborn = -math.inf, 0
        self.begun, self.warned = time.monotonic(), False

    def grow(self) -> None:
        """Asks for as many workers as there is room for, and for one more, which is there when a node joins."""
        room = self.limit - len(self.placed) - len(self.asked)
        now = time.monotonic()
        if not room or (self.asked and now - self.looked < LOOK):
            return
        self.looked = now
        free = self.limit
        if not self.eager:
            have = self.ray.available_resources()
            free = min(int(have.get(name, 0) / need) for name, need in self.needs.items() if need)
        for _ in range(min(room, max(1, free) - len(self.asked))):
            actor = self.actor_class.remote(self.setup, self.device, max(1, self.needs["CPU"]))
            self.asked[actor.place.remote()] = actor

    def wait(self) -> list[Any]:
        """Waits for a result, a sign of life, or a worker in its place; returns all references that are ready."""
        if not self.placed and not self.warned and time.monotonic() - self.begun > PATIENCE:
            self.warned = True
            print("waiting for a free core or GPU on the Ray cluster (`ray status` shows it)", file=sys.stderr)
        references = [*self.busy, *self.silent, *self.asked]
        if not references:
            time.sleep(LOOK)
            return []
        if not self.ray.wait(references, num_returns=1, timeout=LOOK)[0]:
            return []
        ready, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            if reference in self.asked:
                self._place(reference)
        return ready

    def _place(self, reference: Any) -> None:
        actor = self.asked.pop(reference)
        try:
            worker = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.stillborn += 1
            if self.stillborn == STILLBORN or isinstance(error, self.ray.exceptions.RuntimeEnvSetupError):
                raise InputError(f"no worker starts on the Ray cluster: {line(error)}") from error
            return
        self.stillborn = 0
        self.placed.append(Member(actor, worker))

    def give(self, member: Member[Chunk], task: Task[Chunk]) -> None:
        packed = self.packed(member.worker, task.chunk)
        reference = member.actor.do.remote(pickle.dumps(packed, pickle.HIGHEST_PROTOCOL))
        member.awaited[reference] = task
        self.busy[reference] = member

    def done(self, reference: Any) -> Task[Chunk]:
        return self.busy.pop(reference).awaited.pop(reference)

    def question(self, member: Member[Chunk]) -> None:
        """For a worker that cannot be reached: asks it something, and Ray answers for it once its fate is known.

        Ray learns that a process died within a second, that a whole node did within ten or twenty.
        """
        self._set_aside(member)
        self.silent[member.actor.place.remote()] = member

    def dismiss(self, member: Member[Chunk]) -> list[Task[Chunk]]:
        """Takes a dead worker from the crew; returns the tasks it held."""
        self._set_aside(member)
        return list(member.tasks)

    def welcome(self, member: Member[Chunk]) -> list[Task[Chunk]]:
        """Takes a worker that was silent back; returns the tasks it held, whose results were lost on the way."""
        tasks = list(member.tasks)
        member.awaited.clear()
        self.placed.append(member)
        return tasks

    def _set_aside(self, member: Member[Chunk]) -> None:
        if member in self.placed:
            self.placed.remove(member)
            for reference in member.awaited:
                del self.busy[reference]

    def stands(self, node: str) -> bool:
        return any(each["NodeID"] == node and each["Alive"] for each in self.ray.nodes())
