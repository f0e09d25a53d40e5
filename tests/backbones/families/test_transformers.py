"""Vision transformers against what PyTorch made of the same weights (`python -m bench.parity_vit`), noted here."""

import numpy as np
import pytest

from bench.drawn_vit import drawn
from stages.backbones import matching
from stages.common.errors import InputError
from tests.backbones.families.torch_files import open_clip, timm
from tests.backbones.test_zoo import features, loaded, photos

# Of the largest feature.
TOLERANCE = 1e-4

VIT = timm(16, 197, classes=1000)
DINOV2 = timm(14, 1370, scaled=True)
TIMM_REGISTERS = timm(14, 1369, scaled=True, registers="reg_token")
CLIP_B32 = open_clip(32, 50)

# By network: the file's tensors; of two photos, the first eight features and the length of all.
NOTED = {
    "vit_small_patch16_224": (
        VIT,
        [-1.21267, -0.40434, -0.63275, 1.05154, 1.43681, -1.05042, 0.04683, 0.83943, 20.7156],
        [-0.81938, -0.6975, -0.31566, 0.73431, 1.34951, 0.02077, 0.0797, -0.09331, 20.8834],
    ),
    "vit_small_patch14_dinov2": (
        DINOV2,
        [-0.72003, -0.41032, -1.00495, -0.19308, -0.71754, 0.36165, -0.09472, 1.79, 20.6899],
        [0.6558, -0.8089, -0.23579, -0.05619, -1.61607, 1.31859, -0.02737, 1.15031, 20.8714],
    ),
    "vit_small_patch14_reg4_dinov2": (
        TIMM_REGISTERS,
        [-1.29472, -0.57368, -1.05523, -0.51737, -0.5871, 0.17044, -0.07757, 2.51629, 20.7651],
        [0.4189, -0.98295, 0.30797, -0.54269, -1.42795, 0.59058, 0.22345, 1.79412, 20.6494],
    ),
    "clip_vit_b32": (
        CLIP_B32,
        [-0.65293, -0.53875, 0.1187, -1.64244, 1.9139, -6.0096, -1.66131, -1.14437, 44.8267],
        [-1.84688, -1.08124, 0.04965, -2.26717, 1.37752, -2.81903, -0.98437, -1.85172, 44.0557],
    ),
    "clip_vit_b32_quickgelu": (
        CLIP_B32,
        [-0.65119, -0.52535, 0.11028, -1.6345, 1.93072, -5.98768, -1.65348, -1.12006, 44.8079],
        [-1.8422, -1.09772, 0.06504, -2.24565, 1.37914, -2.82612, -0.96754, -1.8231, 44.0316],
    ),
}


def tensors(shapes):
    return {name: drawn(name, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", NOTED)
def test_features_are_those_pytorch_computes(name):
    shapes, *noted = NOTED[name]
    computed = features(name, loaded(name, tensors(shapes)), "pool", photos(name)[:2])
    for ours, theirs in zip(computed, noted):
        found = [*ours[:8], np.linalg.norm(ours)]
        np.testing.assert_allclose(found, theirs, rtol=TOLERANCE, atol=TOLERANCE * np.abs(ours).max())


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
