"""CLIP's image towers (Radford et al. 2021, arXiv:2103.00020), as OpenCLIP and OpenAI save them.

The feature is the projected embedding as it leaves the tower: what CLIP compares with texts, but not divided by its
length. OpenAI's weights, and all whose name in OpenCLIP ends in "-quickgelu", are of the networks whose name here ends
in ``_quickgelu``; LAION's and the others are of those with GELU. Nothing in a file tells the one from the other.
"""

from collections.abc import Sequence
from pathlib import Path

from stages.backbones import catalogue
from stages.backbones.families.family import Family, Network, bring, hub
from stages.backbones.files.binary import Tensors
from stages.backend.mx import mx

BLOCKS, EPSILON = 12, 1e-5
WIDTH, HEADS, EMBEDDING = 768, 12, 512
TOWER = "visual."
QUICK = "_quickgelu"
PATCHES = {"clip_vit_b16": 16, "clip_vit_b32": 32}
REPOSITORIES = {
    "clip_vit_b16": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "clip_vit_b32": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "clip_vit_b16_quickgelu": "timm/vit_base_patch16_clip_224.openai",
    "clip_vit_b32_quickgelu": "timm/vit_base_patch32_clip_224.openai",
}

# What the files call a parameter.
NAMES = {
    "features.0.class_token": "class_embedding",
    "features.0.position": "positional_embedding",
    "features.0.patches.weight": "conv1.weight",
    "features.1.gamma": "ln_pre.weight",
    "features.1.beta": "ln_pre.bias",
    f"features.{BLOCKS + 2}.gamma": "ln_post.weight",
    f"features.{BLOCKS + 2}.beta": "ln_post.bias",
    f"features.{BLOCKS + 3}.weight": "proj",
}
IN_BLOCK = {
    "norm1.gamma": "ln_1.weight",
    "norm1.beta": "ln_1.bias",
    "attention.weight": "attn.in_proj_weight",
    "attention.bias": "attn.in_proj_bias",
    "projection.weight": "attn.out_proj.weight",
    "projection.bias": "attn.out_proj.bias",
    "norm2.gamma": "ln_2.weight",
    "norm2.beta": "ln_2.bias",
    "dense1.weight": "mlp.c_fc.weight",
    "dense1.bias": "mlp.c_fc.bias",
    "dense2.weight": "mlp.c_proj.weight",
    "dense2.bias": "mlp.c_proj.bias",
}


def network(name: str) -> Network:
    """``features``: (n, 3, size, size) → (n, 512)."""
    from stages.backbones import tokens

    nn, size, quick = mx.gluon.nn, catalogue.find(name).size, name.endswith(QUICK)
    patch = PATCHES[name.removesuffix(QUICK)]
    count = 1 + (size // patch) ** 2
    features = nn.HybridSequential()
    features.add(tokens.Embedding(size, patch, WIDTH, bias=False), tokens.norm(WIDTH, EPSILON))
    for number in range(BLOCKS):
        features.add(tokens.Block(WIDTH, HEADS, count, EPSILON, quick=quick, last=number == BLOCKS - 1))
    features.add(tokens.norm(WIDTH, EPSILON), tokens.Dense(EMBEDDING, WIDTH, bias=False), nn.Flatten())
    return tokens.Headless(features)


def _namings(name: str, parameters: Sequence[str]) -> list[list[str]]:
    return [[TOWER + _theirs(parameter) for parameter in parameters]]


def _theirs(parameter: str) -> str:
    if parameter in NAMES:
        return NAMES[parameter]
    _, number, part = parameter.split(".", 2)
    return f"transformer.resblocks.{int(number) - 2}.{IN_BLOCK[part]}"


def _published(name: str) -> tuple[Path, str]:
    bring(name, hub(REPOSITORIES[name], "open_clip_model.safetensors"))


def _adapted(name: str, tensors: Tensors) -> Tensors:
    """The image tower alone, of the whole of CLIP."""
    found = {key: value for key, value in tensors.items() if key.startswith(TOWER)}
    for key, axes in (("class_embedding", 1), ("positional_embedding", 2)):
        value = found.get(TOWER + key)
        if value is not None and value.ndim == axes:
            found[TOWER + key] = value.reshape((1,) * (3 - axes) + value.shape)
    projection = found.get(f"{TOWER}proj")
    if projection is not None:
        found[f"{TOWER}proj"] = projection.T
    return found or tensors


FAMILY = Family(network, _namings, _published, _adapted)
