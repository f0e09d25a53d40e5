"""Weights drawn from their names: the same in every process, whichever framework asks. NumPy alone."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# By network, how much larger its weights are than He's: signals neither die away nor outgrow all gates. Others: 1.
GAINS = {
    "efficientnet_b0": 1.37,
    "efficientnet_b1": 1.33,
    "efficientnet_b1.ft_in1k": 1.33,
    "efficientnet_b2": 1.3,
    "tf_efficientnet_b0": 1.4,
    "tf_efficientnet_b1": 1.33,
    "tf_efficientnet_b2": 1.3,
    "mobilenet_v3_large": 1.2,
    "mobilenetv3_large_100": 1.2,
}

# What transformers add to or put beside their patches.
TOKENS = ("cls_token", "reg_token", "register_tokens", "pos_embed", "class_embedding", "positional_embedding")


def drawn(network: str, name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """The tensor called ``name`` in a PyTorch file of ``network``: no bias is 0, no scale 1; pictures differ.

    Tensors of the same name and the same numbers in another shape are the same.
    """
    # NumPy promises the same numbers from RandomState in every version.
    random = np.random.RandomState(zlib.crc32(name.encode()))
    count = int(np.prod(shape))
    last = name.rpartition(".")[2]
    if last == "running_var":
        values = random.uniform(1, 3, count)
    elif last.endswith("bias") or last == "running_mean":
        values = random.normal(0, 0.1, count)
    elif last in TOKENS:
        values = random.normal(0, 0.5, count)
    elif last in ("gamma", "layer_scale") or len(shape) == 1:
        values = random.uniform(0.5, 1.5, count)
    else:
        # He et al. 2015, eq. 10.
        values = random.standard_normal(count) * GAINS.get(network, 1) * np.sqrt(2 / np.prod(shape[1:]))
    return values.astype(np.float32).reshape(shape)
