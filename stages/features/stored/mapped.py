"""Arrays that may not fit into memory."""

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def mapped_array(dtype: np.dtype[Any], shape: tuple[int, ...], folder: Path) -> "np.memmap[Any, np.dtype[Any]]":
    """An array in a file without a name in ``folder``, for what may not fit into memory; it goes with the process.

    Raises OSError where the disk is too small: now, not as a fault in mapped memory later.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * dtype.itemsize))
        except OSError as error:
            error.filename = str(folder)
            raise
        return np.memmap(file, dtype, "r+", shape=shape)
