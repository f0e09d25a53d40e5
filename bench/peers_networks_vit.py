"""The vision transformers as timm, DINOv2's authors and OpenCLIP have them. Runs in the environment of the peers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from bench.peers_networks_cnn import Module, Peer, from_timm, import_torchvision

State = dict[str, torch.Tensor]

SIZE = 224


def _dinov2(name: str, metas: bool) -> Peer:
    """timm's network, as it is for 518 pixels; with ``metas`` its tensors are named as in Meta's files."""
    import_torchvision()
    import timm

    def make() -> Module:
        network = timm.create_model(name)
        if metas:
            width = network.cls_token.shape[-1]
            network.mask_token = torch.nn.Parameter(torch.ones(1, width))
            if network.reg_token is not None:
                network.register_tokens, network.reg_token = network.reg_token, None
                # Meta's class token has a position, which timm has added to it.
                network.pos_embed = torch.nn.Parameter(torch.cat([network.cls_token, network.pos_embed], dim=1))
        return network

    made: list[Module] = []

    def features(network: Module, batch: torch.Tensor) -> torch.Tensor:
        # Once, as this is timed too.
        if not made:
            made.append(timm.create_model(name, img_size=SIZE).eval().requires_grad_(False))
            made[0].load_state_dict(_for_size(dict(network.state_dict())))
        return made[0](batch)

    return Peer(make, lambda _: _evaluation(), features, ".pth" if metas else ".safetensors")


def _for_size(state: State) -> State:
    """The tensors of either file for timm's network for ``SIZE`` pixels, with the positions as Meta resizes them."""
    state.pop("mask_token", None)
    position = state["pos_embed"]
    front, patches = position[:, :1], position[:, 1:]
    if "register_tokens" in state:
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + front
        front = front[:, :0]
    elif "reg_token" in state:
        front, patches = position[:, :0], position
    state["pos_embed"] = torch.cat([front, interpolated(patches, "reg_token" in state)], dim=1)
    return state


def interpolated(patches: torch.Tensor, registers: bool) -> torch.Tensor:
    """As ``interpolate_pos_encoding`` in DINOv2's vision_transformer.py, by the arguments of its hub's networks."""
    old, new = round(patches.shape[1] ** 0.5), SIZE // 14
    maps = patches.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    how: dict[str, Any] = {"size": (new, new)} if registers else {"scale_factor": ((new + 0.1) / old,) * 2}
    maps = functional.interpolate(maps, mode="bicubic", antialias=registers, **how)
    return maps.permute(0, 2, 3, 1).reshape(1, new * new, -1)


def _evaluation() -> Callable[[Any], torch.Tensor]:
    """``make_classification_eval_transform`` in DINOv2's dinov2/data/transforms.py."""
    transforms = import_torchvision().transforms
    resize = transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC)
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    composed: Callable[[Any], torch.Tensor] = transforms.Compose(
        [resize, transforms.CenterCrop(SIZE), transforms.ToTensor(), normalize]
    )
    return composed


def _clip(name: str, theirs: str) -> Peer:
    import_torchvision()
    import open_clip

    return Peer(
        lambda: open_clip.create_model(theirs),
        lambda _: open_clip.image_transform(SIZE, is_train=False),
        lambda network, batch: network.encode_image(batch),
        ".safetensors",
    )


_DINOV2 = [f"vit_{size}_patch14_{registers}dinov2" for size in ("small", "base") for registers in ("", "reg4_")]
_CLIP = {
    f"clip_vit_b{patch}{'_quickgelu' if quick else ''}": f"ViT-B-{patch}{'-quickgelu' if quick else ''}"
    for patch in (32, 16)
    for quick in (False, True)
}

# By headstart's name of the network, and the library that made the file.
NETWORKS: dict[tuple[str, str], Callable[[], Peer]] = {
    **{(name, "timm"): partial(from_timm, name) for name in ("vit_small_patch16_224", "vit_base_patch16_224")},
    **{(name, "timm"): partial(_dinov2, name, False) for name in _DINOV2},
    **{(name, "meta"): partial(_dinov2, name, True) for name in _DINOV2},
    **{(name, "open_clip"): partial(_clip, name, theirs) for name, theirs in _CLIP.items()},
}
