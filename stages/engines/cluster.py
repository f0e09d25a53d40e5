"""The Ray cluster: how this driver joins it, and what a worker there is and owns."""

import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common.cores import cores
from stages.common.errors import InputError

# Seconds in which a cluster answers, or is taken for gone.
ANSWER = 5

# Times the server of the Ray Client is asked to serve this driver: now and then its process for it fails to start.
KNOCKS = 5


def join(address: str, environment: Mapping[str, str]) -> Any:
    """Joins the cluster at ``address``; returns the ray module. Raises InputError where that fails."""
    try:
        import ray
    except ImportError:
        raise InputError(
            f"runtime.engine is ray and Ray is not installed for {sys.executable}: "
            "`pip install -r requirements-ray.txt`, or set runtime.engine to local"
        ) from None
    _answers(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        # Ray would report its use to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"num_cpus": cores(physical=True), "include_dashboard": False}
    # The Ray Client advises to ship less with every task; images are what there is to ship.
    warnings.filterwarnings("ignore", "More than .* of messages have been created")
    with tempfile.TemporaryDirectory() as folder:
        # The code is all a worker gets to see, so it works on this machine only if it works on every other.
        shutil.copytree(
            Path(__file__).parent.parent, Path(folder, "stages"), ignore=shutil.ignore_patterns("__pycache__")
        )
        for left in reversed(range(KNOCKS)):
            try:
                ray.init(address=address, runtime_env={"working_dir": folder, "env_vars": dict(environment)}, **options)
                return ray
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                if left and "Initialization failure from server" in str(error):
                    continue
                raise InputError(
                    f"cannot join the Ray cluster (runtime.ray_address: {address}): {line(error)}"
                ) from None


def _answers(address: str) -> None:
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


def share(ray: Any, kind: str) -> tuple[str, dict[str, int]]:
    """What a worker is (its device) and owns: ("cpu(0)", {"CPU": 1}) or ("gpu(0)", {"CPU": n, "GPU": 1}).

    Ray shows a worker its own GPU alone, so that is always number 0. Raises InputError where there should be a GPU.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    if kind == "cpu" or (kind == "auto" and not nodes):
        return "cpu(0)", {"CPU": 1}
    if not nodes:
        raise InputError("runtime.devices asks for a GPU and the Ray cluster has none: set it to auto or cpu")
    return "gpu(0)", {"CPU": min(int(node.get("CPU", 0) // node["GPU"]) for node in nodes), "GPU": 1}


def line(error: Exception) -> str:
    """What an error of Ray's says, in one line: its first, and its last where the first only announces it."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{first} {others[-1]}" if others and first.endswith(":") else first
