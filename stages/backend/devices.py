"""What the work can be spread over: names such as "cpu(1)" and "gpu(0)", one per worker."""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any, Literal, Union

from stages.backend.mx import mx
from stages.common.cores import cores
from stages.common.errors import InputError

# The compute capabilities that mxnet-cu112 was compiled for: Maxwell to Ada. It holds no PTX for later ones.
OLDEST, NEWEST = (5, 0), (8, 9)


def resolve(
    devices: Union[Literal["auto", "cpu", "gpu"], list[int]], workers: Union[Literal["auto"], int]
) -> list[str]:
    """Names the device of every worker.

    devices: "auto" (the GPUs, or the CPU where there is none), "cpu", "gpu" or a list of GPU numbers.
    workers: how many; "auto" is one per physical core that this process may use, or one per GPU.
    Raises InputError for GPUs that are not there or that MXNet has no code for.
    """
    gpus = mx.context.num_gpus() if _driver() else 0
    if devices == "cpu" or (devices == "auto" and not gpus):
        count = cores(physical=True) if workers == "auto" else workers
        return [f"cpu({i})" for i in range(count)]
    numbers = devices if isinstance(devices, list) else list(range(gpus))
    if not numbers or max(numbers) >= gpus:
        wanted = "a GPU" if devices == "gpu" else f"GPU {max(numbers)}"
        raise InputError(f"runtime.devices asks for {wanted} and MXNet sees {gpus}: set it to auto or cpu")
    for number in numbers:
        capability = compute_capability(number)
        if not OLDEST <= capability <= NEWEST:
            its, oldest, newest = (".".join(map(str, version)) for version in (capability, OLDEST, NEWEST))
            raise InputError(
                f"GPU {number} has compute capability {its} and MXNet for CUDA 11.2 runs on {oldest} to {newest}: "
                "leave it out of runtime.devices, or set that to cpu"
            )
    return [f"gpu({i})" for i in (numbers if workers == "auto" else (numbers * workers)[:workers])]


def _driver() -> bool:
    """Whether there is an NVIDIA driver. Where there is none, MXNet need not be loaded to find no GPU."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def kind(device: str) -> str:
    """Which kind of device it is: "cpu" or "gpu"."""
    return device.partition("(")[0]


def context(device: str) -> Any:
    """The MXNet context of a device name."""
    return mx.Context(kind(device), int(device.rstrip(")").partition("(")[2]))


def compute_capability(number: int) -> tuple[int, int]:
    """The compute capability of a GPU, such as (8, 6)."""
    runtime = ctypes.CDLL("libcudart.so.11.0")
    major, minor = ctypes.c_int(), ctypes.c_int()
    for value, attribute in ((major, 75), (minor, 76)):  # cudaDevAttrComputeCapabilityMajor and Minor
        runtime.cudaDeviceGetAttribute(ctypes.byref(value), attribute, number)
    return major.value, minor.value


@contextlib.contextmanager
def memory_of(device: object, setting: str) -> Iterator[None]:
    """Turns MXNet's error that ``device`` is out of memory into an InputError that names the ``setting`` to lower."""
    try:
        yield
    except mx.base.MXNetError as error:
        if "out of memory" not in str(error):
            raise
        raise InputError(f"{device} is out of memory: lower {setting}") from None
