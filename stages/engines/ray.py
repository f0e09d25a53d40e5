"""Workers on a Ray cluster: one actor for each GPU or core that is free, chunks in, results out.

The contract is that of ``workers.run``, so what works on a chunk does not notice where it runs. The machines of the
cluster need Ray and headstart's requirements, nothing else: code and setup travel through Ray, chunks and results
too. Machines may come and go; an actor is always waiting for a place on one that comes.
"""

import math
import os
import pickle
import shutil
import socket
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import joblib

from stages.common.errors import InputError
from stages.engines.tasks import Tasks

# Chunks a worker holds at a time: one to compute, one to decode, one on its way.
IN_FLIGHT = 3

# Seconds between two looks at what is free on the cluster.
LOOK = 1

# Seconds without any worker after which that is said.
PATIENCE = 15

# Seconds in which a cluster answers, or is taken for gone.
ANSWER = 5

# Times the server of the Ray Client is asked to serve this driver: now and then its process for it fails to start.
KNOCKS = 3

# Workers that may die one after the other before any of them has begun.
STILLBORN = 3


class _Worker:
    """The driver's view of an actor: the tasks it holds by the reference to their result, and its node."""

    def __init__(self, actor):
        self.actor, self.awaited, self.node, self.name = actor, {}, None, None

    @property
    def tasks(self):
        return self.awaited.values()


def run(setup, kind, chunks, count, environment=None, describe=repr, address="auto", workers="auto", used=None):
    """Yields (chunk, result) for every chunk, as the results come.

    setup, chunks, describe: see ``tasks``; there are ``count`` chunks, and setup is shipped to every node once. kind:
    "cpu" (a worker owns one core), "gpu" (one GPU, and its share of the node's cores as threads) or "auto" (GPUs, or
    the cores of a cluster without). environment: variables set for the workers before they start.
    address: see ``runtime.ray_address`` in params.yaml. workers: how many at most, or "auto" for all that find a
    place. used: a set that gets (node, worker) of every worker that returned a result.

    What a worker held when it died is done again: on another worker where its whole node is gone, else each chunk
    alone in a worker; a chunk with which a second worker dies raises InputError with ``describe(chunk)``. An
    InputError in a worker is raised here as it is. Raises InputError where the cluster cannot be joined.
    """
    tasks = Tasks(chunks, describe)
    if not tasks:
        return
    ray = _join(address, environment or {})
    try:
        crew = _Crew(ray, setup, kind, count, workers)
        yield from _work(ray, crew, tasks, set() if used is None else used)
    finally:
        ray.shutdown()


def _work(ray, crew, tasks, used):
    while True:
        for worker, task in tasks.deal(crew.placed, IN_FLIGHT):
            crew.give(worker, task)
        if not (crew.busy or crew.silent or tasks):
            return
        crew.grow()
        for reference in crew.wait():
            worker = crew.busy.get(reference) or crew.silent.pop(reference, None)
            # What a worker that was lost a moment ago worked on is no longer awaited.
            if worker is None:
                continue
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise _raised(error) from None
            except ray.exceptions.ActorUnavailableError:
                crew.question(worker)
            except ray.exceptions.RayError as error:
                held = crew.dismiss(worker)
                # A node that goes takes its workers along, whatever they work on.
                if crew.stands(worker.node):
                    tasks.suspect(held, _line(error))
                else:
                    tasks.take_back(held)
            else:
                if reference not in worker.awaited:
                    tasks.take_back(crew.welcome(worker))
                    continue
                task = crew.done(reference)
                used.add((worker.node, worker.name))
                yield task.chunk, result


class _Crew:
    """The actors: those that wait for a place on the cluster, and those that have one."""

    def __init__(self, ray, setup, kind, count, workers):
        self.ray = ray
        self.device, self.needs = _share(ray, kind)
        self.limit = count if workers == "auto" else min(count, workers)
        # Asked for at once, a number tells a cluster that grows on demand how far to grow.
        self.eager = workers != "auto"
        self.actor_class = ray.remote(_Actor).options(
            num_cpus=self.needs["CPU"], num_gpus=self.needs.get("GPU", 0), max_concurrency=IN_FLIGHT
        )
        # In a list, Ray hands the reference on as it is and each worker fetches the object itself. Pickled here, what
        # goes wrong in unpickling is an exception like any other in a worker: no MXNet there, say.
        self.setup = [ray.put(ray.cloudpickle.dumps(setup))]
        self.asked, self.placed = {}, []
        # By reference: whose result it is, and whose sign of life.
        self.busy, self.silent = {}, {}
        self.looked, self.stillborn = -math.inf, 0
        self.begun, self.warned = time.monotonic(), False

    def grow(self):
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

    def wait(self):
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

    def _place(self, reference):
        worker = _Worker(self.asked.pop(reference))
        try:
            worker.node, worker.name = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.stillborn += 1
            if self.stillborn == STILLBORN or isinstance(error, self.ray.exceptions.RuntimeEnvSetupError):
                raise InputError(f"no worker starts on the Ray cluster: {_line(error)}") from error
            return
        self.stillborn = 0
        self.placed.append(worker)

    def give(self, worker, task):
        reference = worker.actor.do.remote(pickle.dumps(task.chunk, pickle.HIGHEST_PROTOCOL))
        worker.awaited[reference] = task
        self.busy[reference] = worker

    def done(self, reference):
        return self.busy.pop(reference).awaited.pop(reference)

    def question(self, worker):
        """For a worker that cannot be reached: asks it something, and Ray answers for it once its fate is known.

        Ray learns that a process died within a second, that a whole node did within ten or twenty.
        """
        self._set_aside(worker)
        self.silent[worker.actor.place.remote()] = worker

    def dismiss(self, worker):
        """Takes a dead worker from the crew; returns the tasks it held."""
        self._set_aside(worker)
        return list(worker.tasks)

    def welcome(self, worker):
        """Takes a worker that was silent back; returns the tasks it held, whose results were lost on the way."""
        tasks = list(worker.tasks)
        worker.awaited.clear()
        self.placed.append(worker)
        return tasks

    def _set_aside(self, worker):
        if worker in self.placed:
            self.placed.remove(worker)
            for reference in worker.awaited:
                del self.busy[reference]

    def stands(self, node):
        return any(each["NodeID"] == node and each["Alive"] for each in self.ray.nodes())


def _raised(error):
    """What to raise for an exception in a worker."""
    return error.cause if isinstance(error.cause, InputError) else RuntimeError(f"in a worker on Ray:\n{error}")


def _line(error):
    """What an error of Ray's says, in one line: its first, and its last where the first only announces it."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{first} {others[-1]}" if others and first.endswith(":") else first


def _share(ray, kind):
    """What a worker is (its device) and owns: ("cpu(0)", {"CPU": 1}) or ("gpu(0)", {"CPU": n, "GPU": 1}).

    Ray shows a worker its own GPU alone, so that is always number 0. Raises InputError where there should be a GPU.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    if kind == "cpu" or (kind == "auto" and not nodes):
        return "cpu(0)", {"CPU": 1}
    if not nodes:
        raise InputError("runtime.devices asks for a GPU and the Ray cluster has none: set it to auto or cpu")
    return "gpu(0)", {"CPU": min(int(node.get("CPU", 0) // node["GPU"]) for node in nodes), "GPU": 1}


def _join(address, environment):
    """Joins the cluster at ``address``; returns the ray module. Raises InputError where that fails."""
    try:
        import ray
    except ImportError:
        raise InputError(
            f"runtime.engine is ray and Ray is not installed for {sys.executable}: "
            "`pip install -r requirements-ray.txt`, or set runtime.engine to local"
        ) from None
    _answers(address)
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        # Ray would report its use to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"num_cpus": joblib.cpu_count(only_physical_cores=True), "include_dashboard": False}
    # The Ray Client advises to ship less with every task; images are what there is to ship.
    warnings.filterwarnings("ignore", "More than .* of messages have been created")
    with tempfile.TemporaryDirectory() as folder:
        # The code is all a worker gets to see, so it works on this machine only if it works on every other.
        shutil.copytree(
            Path(__file__).parent.parent, Path(folder, "stages"), ignore=shutil.ignore_patterns("__pycache__")
        )
        for left in reversed(range(KNOCKS)):
            try:
                ray.init(address=address, runtime_env={"working_dir": folder, "env_vars": environment}, **options)
                return ray
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                if left and "Initialization failure from server" in str(error):
                    continue
                raise InputError(
                    f"cannot join the Ray cluster (runtime.ray_address: {address}): {_line(error)}"
                ) from None


def _answers(address):
    """Raises InputError if nobody listens at ``address``; Ray itself would try for minutes."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.split("://")[-1].rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except OSError as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): start one with `ray start --head`, "
            "or change runtime.ray_address"
        ) from None


class _Actor:
    """A worker, as it is on its node; ``do`` runs in several threads at a time."""

    def __init__(self, setup, device, threads):
        self.setup, self.device, self.threads = setup, device, threads
        self.one = threading.Lock()
        self.start = None

    def place(self):
        """The node it is on, and what tells it from the others there."""
        import ray

        context = ray.get_runtime_context()
        return context.get_node_id(), context.get_actor_id()

    def do(self, chunk):
        """The result of a pickled chunk; while one thread waits for the device, the next decodes."""
        import ray

        with self.one:
            if self.start is None:
                setup = ray.cloudpickle.loads(ray.get(self.setup[0]))
                self.start = setup(self.device, self.threads)
            finish = self.start(pickle.loads(chunk))
        return finish()
