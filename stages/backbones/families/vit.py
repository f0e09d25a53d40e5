"""Vision transformers of Google's and of DINOv2, as timm names and saves them; DINOv2's in Meta's own files too.

ViT: Dosovitskiy et al. 2021, arXiv:2010.11929, with the weights of Steiner et al. 2022, arXiv:2106.10270 (augreg).
DINOv2: Oquab et al. 2024, arXiv:2304.07193; with registers Darcet et al. 2024, arXiv:2309.16588. The feature is the
class token behind the last norm, what DINOv2's linear evaluation reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.backbones import catalogue
from stages.backbones.families import positions
from stages.backbones.families.family import Family, Network, bring, hub
from stages.backbones.files.binary import Tensors
from stages.backend.mx import mx

BLOCKS, EPSILON = 12, 1e-6


class Form(NamedTuple):
    """One size. file: of Meta's, where the weights are DINOv2's; else timm's."""

    patch: int
    width: int
    heads: int
    registers: int = 0
    file: str = ""


FORMS = {
    "vit_small_patch16_224": Form(16, 384, 6),
    "vit_base_patch16_224": Form(16, 768, 12),
    "vit_small_patch14_dinov2": Form(14, 384, 6, file="dinov2_vits14/dinov2_vits14_pretrain.pth"),
    "vit_base_patch14_dinov2": Form(14, 768, 12, file="dinov2_vitb14/dinov2_vitb14_pretrain.pth"),
    "vit_small_patch14_reg4_dinov2": Form(14, 384, 6, 4, "dinov2_vits14/dinov2_vits14_reg4_pretrain.pth"),
    "vit_base_patch14_reg4_dinov2": Form(14, 768, 12, 4, "dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth"),
}

# What timm and Meta call a parameter.
NAMES = {
    "features.0.class_token": "cls_token",
    "features.0.position": "pos_embed",
    "features.0.patches.weight": "patch_embed.proj.weight",
    "features.0.patches.bias": "patch_embed.proj.bias",
    f"features.{BLOCKS + 1}.gamma": "norm.weight",
    f"features.{BLOCKS + 1}.beta": "norm.bias",
    "output.weight": "head.weight",
    "output.bias": "head.bias",
}
REGISTERS = {"timm": "reg_token", "meta": "register_tokens"}
IN_BLOCK = {
    "norm1.gamma": "norm1.weight",
    "norm1.beta": "norm1.bias",
    "attention.weight": "attn.qkv.weight",
    "attention.bias": "attn.qkv.bias",
    "projection.weight": "attn.proj.weight",
    "projection.bias": "attn.proj.bias",
    "projection.scale": "ls1.gamma",
    "norm2.gamma": "norm2.weight",
    "norm2.beta": "norm2.bias",
    "dense1.weight": "mlp.fc1.weight",
    "dense1.bias": "mlp.fc1.bias",
    "dense2.weight": "mlp.fc2.weight",
    "dense2.bias": "mlp.fc2.bias",
    "dense2.scale": "ls2.gamma",
}


def network(name: str) -> Network:
    """``features``: (n, 3, size, size) → (n, width); ``output``, where it is not DINOv2's: → (n, 1000) logits."""
    from stages.backbones import blocks, tokens

    nn, form, size = mx.gluon.nn, FORMS[name], catalogue.find(name).size
    count = 1 + form.registers + (size // form.patch) ** 2
    features = nn.HybridSequential()
    features.add(tokens.Embedding(size, form.patch, form.width, form.registers))
    for number in range(BLOCKS):
        last = number == BLOCKS - 1
        features.add(tokens.Block(form.width, form.heads, count, EPSILON, scaled=bool(form.file), last=last))
    features.add(tokens.norm(form.width, EPSILON), nn.Flatten())
    if form.file:
        return tokens.Headless(features)
    return blocks.Classifier(features, nn.Dense(1000, in_units=form.width))


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    kinds = REGISTERS.values() if FORMS[name].registers else ["none"]
    return [[_theirs(parameter, registers) for parameter in parameters] for registers in kinds]


def _theirs(parameter: str, registers: str) -> str:
    known = {**NAMES, "features.0.registers": registers}
    if parameter in known:
        return known[parameter]
    _, number, part = parameter.split(".", 2)
    return f"blocks.{int(number) - 1}.{IN_BLOCK[part]}"


def _published(name: str) -> tuple[Path, str]:
    form = FORMS[name]
    if form.file:
        bring(name, f"curl -LO https://dl.fbaipublicfiles.com/dinov2/{form.file}")
    bring(name, hub(f"timm/{name}.augreg_in21k_ft_in1k"))


def _adapted(name: str, tensors: Tensors) -> Tensors:
    """Without the token that DINOv2's training put for hidden patches, and with positions for our patches."""
    form = FORMS[name]
    found = {key: value for key, value in tensors.items() if not (form.file and key == "mask_token")}
    position = found.get("pos_embed")
    if position is None or position.ndim != 3 or position.dtype.kind != "f" or len(position) != 1:
        return found
    if form.registers and REGISTERS["timm"] in found:
        # timm has added the class token's position to that token.
        position = np.concatenate([np.zeros_like(position[:, :1]), position], axis=1)
    # As Meta does it; timm antialiases in every case.
    plain = bool(form.file) and not form.registers
    side = catalogue.find(name).size // form.patch
    found["pos_embed"] = positions.resized(position, side, not plain, 0.1 if plain else 0)
    return found


FAMILY = Family(network, _namings, _published, _adapted)
