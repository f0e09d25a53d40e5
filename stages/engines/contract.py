"""What an engine is: it deals chunks out to workers and yields their results.

``setup(device, threads)`` runs once in each worker and returns ``start(chunk)``, which begins the work on a chunk and
returns a function that waits for its result; so a worker decodes the next chunk while its device still computes the
last. A chunk is any picklable value.

Every chunk is done, and its result yielded once, in any order. What a worker held when it died is done again, by
another; a chunk with which a second worker dies raises InputError. An InputError in a worker is raised as it is, any
other exception as a RuntimeError with its traceback.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

Start = Callable[[Chunk], Callable[[], Result]]
Setup = Callable[[str, int], Start[Chunk, Result]]


class Worker(NamedTuple):
    """node: the machine. name: what tells the worker from the others there."""

    node: str
    name: str


@dataclass(frozen=True)
class Work(Generic[Chunk, Result]):
    """chunks: read only as fast as the workers take them; there are ``count``. One that has ended is asked again after
    each result that was yielded, so a chunk can be done once more.

    environment: variables set for the workers before they start. describe(chunk): names it in an error.
    packed(worker, chunk): what is sent to that worker for the chunk, made when it is sent.
    """

    setup: Setup[Chunk, Result]
    chunks: Iterable[Chunk]
    count: int
    environment: Mapping[str, str] = field(default_factory=dict)
    describe: Callable[[Chunk], str] = repr
    packed: Callable[[Worker, Chunk], Chunk] = lambda worker, chunk: chunk


class Engine(Protocol):
    """Does some work; whoever wants no more of it closes the generator, and the workers end."""

    def __call__(self, work: Work[Chunk, Result]) -> Iterator[tuple[Worker, Chunk, Result]]: ...
