"""This process itself as the one worker, for work that is done before another process has started. See ``contract``."""

import os
import platform
from collections.abc import Iterator

from stages.common.cores import cores
from stages.engines.contract import Chunk, Engine, Result, Work, Worker


def engine(device: str) -> Engine:
    """An engine that computes on ``device`` in this process, which must not have loaded what computes there yet.

    The work's variables stay set. What kills a worker kills this process, and an exception comes as it is.
    """

    def run(work: Work[Chunk, Result]) -> Iterator[tuple[Worker, Chunk, Result]]:
        worker = Worker(platform.node(), device)
        os.environ.update(work.environment)
        start = work.setup(device, cores(physical=False))
        for chunk in work.chunks:
            yield worker, chunk, start(work.packed(worker, chunk))()

    return run
