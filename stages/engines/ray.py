"""Workers on a Ray cluster: one actor for each GPU or core that is free. See ``contract``.

The machines of the cluster need Ray and headstart's requirements, nothing else: code and setup travel through Ray,
chunks and results too. Machines may come and go; an actor is always waiting for a place on one that comes.
"""

from collections.abc import Iterator
from typing import Any, Optional

from stages.common.errors import InputError
from stages.engines.cluster import join, line
from stages.engines.contract import Chunk, Engine, Result, Work, Worker
from stages.engines.crew import Crew, Member, Workers
from stages.engines.tasks import IN_FLIGHT, Tasks


def engine(kind: str, workers: Workers, address: str) -> Engine:
    """An engine on the Ray cluster at ``address`` (see ``runtime.ray_address`` in params.yaml).

    kind: "cpu" (a worker owns one core), "gpu" (one GPU, and its share of the node's cores as threads) or "auto"
    (GPUs, or the cores of a cluster without). workers: how many at most, or "auto" for all that find a place.

    What a worker held is done again elsewhere where its whole node is gone, and suspected only where the worker alone
    died. Raises InputError where the cluster cannot be joined.
    """

    def run(work: Work[Chunk, Result]) -> Iterator[tuple[Worker, Chunk, Result]]:
        tasks = Tasks(work.chunks, work.describe)
        if not tasks:
            return
        ray = join(address, work.environment)
        try:
            yield from _work(ray, Crew(ray, work, kind, workers), tasks)
        finally:
            ray.shutdown()

    return run


def _work(ray: Any, crew: Crew[Chunk], tasks: Tasks[Chunk]) -> Iterator[tuple[Worker, Chunk, Any]]:
    while True:
        for free, task in tasks.deal(crew.placed, IN_FLIGHT):
            crew.give(free, task)
        if not (crew.busy or crew.silent or tasks):
            return
        crew.grow()
        for reference in crew.wait():
            member: Optional[Member[Chunk]] = crew.busy.get(reference) or crew.silent.pop(reference, None)
            # What a worker that was lost a moment ago worked on is no longer awaited.
            if member is None:
                continue
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise _raised(error) from None
            except ray.exceptions.ActorUnavailableError:
                crew.question(member)
            except ray.exceptions.RayError as error:
                held = crew.dismiss(member)
                # A node that goes takes its workers along, whatever they work on.
                if crew.stands(member.worker.node):
                    tasks.suspect(held, line(error))
                else:
                    tasks.take_back(held)
            else:
                if reference not in member.awaited:
                    tasks.take_back(crew.welcome(member))
                    continue
                task = crew.done(reference)
                yield member.worker, task.chunk, result


def _raised(error: Any) -> Exception:
    """What to raise for an exception in a worker."""
    return error.cause if isinstance(error.cause, InputError) else RuntimeError(f"in a worker on Ray:\n{error}")
