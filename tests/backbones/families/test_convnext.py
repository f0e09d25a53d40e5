"""What is done with ConvNeXt's tensors before they are matched."""

import numpy as np
import pytest

from stages.backbones.families import convnext
from stages.common.errors import InputError

BLOCK = "stages.0.blocks.0."


def block(**changes):
    """A block's last layers as timm's files have them, but for ``changes``; None takes a tensor out."""
    tensors = {
        f"{BLOCK}gamma": np.array([2, 3], np.float16),
        f"{BLOCK}mlp.fc1.weight": np.ones((8, 2), np.float16),
        f"{BLOCK}mlp.fc2.weight": np.ones((2, 8), np.float16),
        f"{BLOCK}mlp.fc2.bias": np.ones(2, np.float16),
    }
    tensors.update({BLOCK + name.replace("_", "."): tensor for name, tensor in changes.items()})
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def test_the_scale_goes_into_the_last_layer_in_float32():
    found = convnext.FAMILY.adapted("convnext_tiny", block())
    assert list(found) == [f"{BLOCK}mlp.fc1.weight", f"{BLOCK}mlp.fc2.weight", f"{BLOCK}mlp.fc2.bias"]
    assert found[f"{BLOCK}mlp.fc1.weight"].shape == (8, 2, 1, 1)
    weight, bias = found[f"{BLOCK}mlp.fc2.weight"], found[f"{BLOCK}mlp.fc2.bias"]
    assert weight.dtype == np.float32 and weight.shape == (2, 8, 1, 1)
    assert weight[:, 0, 0, 0].tolist() == bias.tolist() == [2, 3]


def test_a_missing_scale_is_named():
    with pytest.raises(InputError, match="^convnext_tiny needs stages.0.blocks.0.gamma, which the weights file does "):
        convnext.FAMILY.adapted("convnext_tiny", block(gamma=None))


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": np.ones(3, np.float32)},
        {"gamma": np.ones(2, np.int64)},
        {"gamma": np.float32(1).reshape(())},
        {"mlp_fc2_bias": None},
        {"mlp_fc2_bias": np.ones((), np.float32)},
        {"mlp_fc2_weight": np.ones((2, 8), np.int8)},
    ],
)
def test_what_does_not_fit_is_left_to_be_complained_of(change):
    assert f"{BLOCK}gamma" in convnext.FAMILY.adapted("convnext_tiny", block(**change))
