"""The files that there are of vision transformers become what the networks need."""

import numpy as np
import pytest

from bench.drawn import drawn
from stages.checkpoints import matching
from stages.common.errors import InputError
from tests.backbones.families.torch_files import open_clip, timm

VIT = timm(16, 197, classes=1000)
DINOV2 = timm(14, 1370, scaled=True)
TIMM_REGISTERS = timm(14, 1369, scaled=True, registers="reg_token")
CLIP_B32 = open_clip(32, 50)


def tensors(shapes):
    return {name: drawn("", name, shape) for name, shape in shapes.items()}


def test_metas_file_of_a_network_with_registers_is_as_timms():
    name, theirs = "vit_small_patch14_reg4_dinov2", tensors(TIMM_REGISTERS)
    metas = dict(theirs, mask_token=np.ones((1, 384), np.float32))
    metas["register_tokens"] = metas.pop("reg_token")
    # The class token's position is not in its token yet.
    metas["pos_embed"] = np.concatenate([np.full((1, 1, 384), 0.25, np.float32), theirs["pos_embed"]], axis=1)
    metas["cls_token"] = theirs["cls_token"] - np.float32(0.25)
    ours, other = (matching.for_network(name, file, "w") for file in (theirs, metas))
    token = "features.0.class_token"
    rows = [fitted[token] + fitted["features.0.position"][:, :1] for fitted in (ours, other)]
    np.testing.assert_allclose(*rows, atol=1e-6)
    for key in ours.keys() - {token, "features.0.position"}:
        np.testing.assert_array_equal(ours[key], other[key])


def test_a_file_for_larger_images_has_its_positions_resized():
    larger = tensors(timm(16, 1 + 24**2, classes=1000))
    fitted = matching.for_network("vit_small_patch16_224", larger, "w")["features.0.position"]
    assert fitted.shape == (1, 197, 384)
    np.testing.assert_array_equal(fitted[:, 0], larger["pos_embed"][:, 0])


def test_half_precision_is_read():
    halves = {name: value.astype(np.float16) for name, value in tensors(CLIP_B32).items()}
    fitted = matching.for_network("clip_vit_b32_quickgelu", halves, "w")
    assert {value.dtype for value in fitted.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("name", "shapes", "lost", "told"),
    [
        ("vit_small_patch14_dinov2", DINOV2, "blocks.3.ls1.gamma", "w has no blocks.3.ls1.gamma, "),
        ("vit_small_patch14_reg4_dinov2", TIMM_REGISTERS, "cls_token", "w has no cls_token, "),
        ("vit_small_patch14_reg4_dinov2", TIMM_REGISTERS, "pos_embed", "w has no pos_embed, "),
        ("clip_vit_b32", CLIP_B32, "visual.class_embedding", "w has no visual.class_embedding, "),
        ("clip_vit_b32", CLIP_B32, "visual.proj", "w has no visual.proj, "),
    ],
)
def test_a_tensor_that_is_missing_is_named_as_in_the_file(name, shapes, lost, told):
    file = {key: np.ones(shape, np.float32) for key, shape in shapes.items() if key != lost}
    with pytest.raises(InputError) as caught:
        matching.for_network(name, file, "w")
    assert str(caught.value).startswith(told)
