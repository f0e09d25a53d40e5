"""What timm, Meta and OpenCLIP call the tensors of vision transformers, with their shapes: written from their files."""

WIDTH, BLOCKS = 384, 12


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _dense(name, units, width):
    return {f"{name}.weight": (units, width), f"{name}.bias": (units,)}


def timm(patch, positions, scaled=False, classes=0, registers="", width=WIDTH):
    """The shapes of a vision transformer's file, in its order.

    positions: rows of its table. registers: what its four registers are called, if it has them.
    """
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, positions, width)}
    if registers:
        shapes[registers] = (1, 4, width)
    shapes |= {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    for number in range(BLOCKS):
        block = f"blocks.{number}"
        shapes |= _norm(f"{block}.norm1", width) | _dense(f"{block}.attn.qkv", 3 * width, width)
        shapes |= _dense(f"{block}.attn.proj", width, width)
        shapes |= {f"{block}.ls1.gamma": (width,)} if scaled else {}
        shapes |= _norm(f"{block}.norm2", width) | _dense(f"{block}.mlp.fc1", 4 * width, width)
        shapes |= _dense(f"{block}.mlp.fc2", width, 4 * width)
        shapes |= {f"{block}.ls2.gamma": (width,)} if scaled else {}
    shapes |= _norm("norm", width)
    return shapes | (_dense("head", classes, width) if classes else {})


def open_clip(patch, positions, width=768, embedding=512):
    """The shapes of the image tower in a file of CLIP's, and of two tensors of the rest."""
    shapes = {
        "positional_embedding": (77, 512),
        "text_projection": (512, 512),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (positions, width),
        "visual.proj": (width, embedding),
        "visual.conv1.weight": (width, 3, patch, patch),
        **_norm("visual.ln_pre", width),
    }
    for number in range(BLOCKS):
        block = f"visual.transformer.resblocks.{number}"
        shapes |= _norm(f"{block}.ln_1", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= _dense(f"{block}.attn.out_proj", width, width) | _norm(f"{block}.ln_2", width)
        shapes |= _dense(f"{block}.mlp.c_fc", 4 * width, width) | _dense(f"{block}.mlp.c_proj", width, 4 * width)
    return shapes | _norm("visual.ln_post", width)


def shapes(name, library):
    """The shapes in the file that ``library`` has of the transformer ``name``."""
    if name.startswith("clip"):
        return open_clip(int(name.split("_")[2][1:]), 50 if "b32" in name else 197)
    width = 384 if "small" in name else 768
    if "patch16" in name:
        return timm(16, 197, classes=1000, width=width)
    if "reg4" not in name:
        return timm(14, 1370, scaled=True, width=width)
    if library == "timm":
        return timm(14, 1369, scaled=True, registers="reg_token", width=width)
    return {**timm(14, 1370, scaled=True, registers="register_tokens", width=width), "mask_token": (1, width)}
