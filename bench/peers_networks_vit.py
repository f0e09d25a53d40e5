"""Vision transformers as PyTorch users have them: ``python peers_networks_vit.py NETWORK FOLDER``.

Makes NETWORK with random weights, writes the files that hold them, and the features of the pixels in
``FOLDER/NETWORK.npy`` to ``FOLDER/NETWORK.features.npy``. Runs in the environment of the peers; imports nothing of
headstart's.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from drawn_vit import drawn
from safetensors.torch import save_file
from torch.nn import functional

Model = Any  # a torch.nn.Module; what it returns for pixels are the features
State = dict[str, Any]

SIZE = 224


def with_drawn_weights(model: Model) -> Model:
    """``model`` with weights that are drawn from the names of its tensors."""
    state = {key: torch.from_numpy(drawn(key, value.shape)) for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def vit(name: str) -> tuple[Model, dict[str, State]]:
    model = with_drawn_weights(timm.create_model(name))
    files = {"model.safetensors": model.state_dict()}
    model.reset_classifier(0)
    return model, files


def dinov2(name: str) -> tuple[Model, dict[str, State]]:
    """timm's network for 518 pixels gives the files; the one for 224 has Meta's interpolation of the positions."""
    state = with_drawn_weights(timm.create_model(name)).state_dict()
    registers = "reg_token" in state
    meta = dict(state, mask_token=torch.ones(1, state["cls_token"].shape[-1]))
    position = state["pos_embed"]
    if registers:
        meta["register_tokens"] = meta.pop("reg_token")
        # Some position of the class token, which timm has added to it.
        meta["pos_embed"] = torch.cat([torch.full_like(position[:, :1], 0.25), position], dim=1)
        meta["cls_token"] = state["cls_token"] - 0.25
        patches, front = position, position[:, :0]
    else:
        front, patches = position[:, :1], position[:, 1:]
    model = timm.create_model(name, img_size=SIZE).eval()
    model.load_state_dict(dict(state, pos_embed=torch.cat([front, interpolated(patches, registers)], dim=1)))
    return model, {"model.safetensors": state, "meta.pth": meta}


def interpolated(patches: Any, registers: bool) -> Any:
    """As ``interpolate_pos_encoding`` in DINOv2's vision_transformer.py, by the arguments of its hub's networks."""
    old, new = round(patches.shape[1] ** 0.5), SIZE // 14
    maps = patches.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    how: dict[str, Any] = {"size": (new, new)} if registers else {"scale_factor": ((new + 0.1) / old,) * 2}
    maps = functional.interpolate(maps, mode="bicubic", antialias=registers, **how)
    return maps.permute(0, 2, 3, 1).reshape(1, new * new, -1)


def clip(name: str) -> tuple[Model, dict[str, State]]:
    _, _, size, *rest = name.split("_")
    theirs = f"ViT-{size[0].upper()}-{size[1:]}{'-quickgelu' if rest else ''}"
    model = with_drawn_weights(open_clip.create_model(theirs))
    return model.visual, {"open_clip_model.safetensors": model.state_dict()}


MAKERS: dict[str, Callable[[str], tuple[Model, dict[str, State]]]] = {
    "vit_small_patch16_224": vit,
    "vit_base_patch16_224": vit,
    "vit_small_patch14_dinov2": dinov2,
    "vit_base_patch14_dinov2": dinov2,
    "vit_small_patch14_reg4_dinov2": dinov2,
    "vit_base_patch14_reg4_dinov2": dinov2,
    "clip_vit_b32": clip,
    "clip_vit_b32_quickgelu": clip,
    "clip_vit_b16": clip,
    "clip_vit_b16_quickgelu": clip,
}


def transform(name: str) -> Callable[[Any], Any]:
    """What its authors do with a picture before the network, for evaluation."""
    if name in ("vit_small_patch16_224", "vit_base_patch16_224"):
        config = timm.data.resolve_data_config(timm.get_pretrained_cfg(f"{name}.augreg_in21k_ft_in1k").to_dict())
        return timm.data.create_transform(**config)
    from torchvision import transforms

    if name.endswith("dinov2"):
        # make_classification_eval_transform in dinov2/data/transforms.py.
        bicubic = transforms.InterpolationMode.BICUBIC
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        parts = [transforms.Resize(256, interpolation=bicubic), transforms.CenterCrop(SIZE), transforms.ToTensor()]
        return transforms.Compose([*parts, transforms.Normalize(mean, std)])
    return open_clip.image_transform(SIZE, is_train=False)


def pictures(folder: Path) -> Iterator[Any]:
    from PIL import Image

    for path in sorted((folder / "pictures").iterdir()):
        with Image.open(path) as file:
            yield file.convert("RGB")


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    model, files = MAKERS[name](name)
    for file, state in files.items():
        path = folder / f"{name}.{file}"
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    with torch.inference_mode():
        np.save(folder / f"{name}.features.npy", model(torch.from_numpy(np.load(folder / f"{name}.npy"))).numpy())
    prepare = transform(name)
    np.save(folder / f"{name}.theirs.npy", np.stack([prepare(picture).numpy() for picture in pictures(folder)]))


if __name__ == "__main__":
    main()
