"""What the work can be spread over: names such as "cpu(1)" and "gpu(0)", one per worker."""

import joblib

from stages.errors import InputError
from stages.mx import mx


def resolve(devices, workers):
    """Names the device of every worker.

    devices: "auto" (the GPUs, or the CPU where there is none), "cpu", "gpu" or a list of GPU numbers.
    workers: how many; "auto" is one per physical core that this process may use, or one per GPU.
    Raises InputError for GPUs that are not there.
    """
    gpus = mx.context.num_gpus()
    if devices == "cpu" or (devices == "auto" and not gpus):
        count = joblib.cpu_count(only_physical_cores=True) if workers == "auto" else workers
        return [f"cpu({i})" for i in range(count)]
    numbers = list(range(gpus)) if devices in ("auto", "gpu") else devices
    if not numbers or max(numbers) >= gpus:
        wanted = "a GPU" if devices == "gpu" else f"GPU {max(numbers)}"
        raise InputError(f"runtime.devices asks for {wanted} and MXNet sees {gpus}: set it to auto or cpu")
    return [f"gpu({i})" for i in (numbers if workers == "auto" else (numbers * workers)[:workers])]


def context(device):
    """The MXNet context of a device name."""
    kind, number = device.rstrip(")").split("(")
    return mx.Context(kind, int(number))
