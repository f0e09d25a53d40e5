"""Weights of transformers drawn from the names of their tensors: the same in every process. NumPy alone."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOKENS = ("cls_token", "reg_token", "pos_embed", "class_embedding", "positional_embedding")


def drawn(name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """The tensor called ``name`` in a PyTorch file: no bias is 0, no scale is 1, attention has preferences."""
    # NumPy promises the same numbers from RandomState in every version.
    random = np.random.RandomState(zlib.crc32(name.encode()))
    count = int(np.prod(shape))
    if name.endswith("bias"):
        values = random.normal(0, 0.1, count)
    elif name.endswith(TOKENS):
        values = random.normal(0, 0.5, count)
    elif len(shape) < 2:
        values = random.uniform(0.5, 1.5, count)
    else:
        values = random.standard_normal(count) * 1.5 / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32).reshape(shape)
