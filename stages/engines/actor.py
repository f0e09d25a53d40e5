"""A worker on a Ray cluster, as it is on its node."""

import pickle
import threading
from typing import Any, Optional

from stages.engines.contract import Start, Worker


class Actor:
    """A worker, as it is on its node; ``do`` runs in several threads at a time."""

    def __init__(self, setup: list[Any], device: str, threads: int) -> None:
        self.setup, self.device, self.threads = setup, device, threads
        self.one = threading.Lock()
        self.start: Optional[Start[Any, Any]] = None

    def place(self) -> Worker:
        """The node it is on, and what tells it from the others there."""
        import ray

        context = ray.get_runtime_context()
        return Worker(context.get_node_id(), str(context.get_actor_id()))

    def do(self, chunk: bytes) -> Any:
        """The result of a pickled chunk; while one thread waits for the device, the next decodes."""
        import ray

        with self.one:
            if self.start is None:
                setup = ray.cloudpickle.loads(ray.get(self.setup[0]))
                self.start = setup(self.device, self.threads)
            finish = self.start(pickle.loads(chunk))
        return finish()
