"""The convolutional networks as PyTorch's libraries make them. Runs in the environment of the peers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Optional

import torch

Module = Any  # a torch.nn.Module


class Peer(NamedTuple):
    """One network: how a library makes it (with random weights), how it evaluates, and what people have of it.

    transform: of the network, what makes of a PIL image float32 (3, side, side); None where headstart takes the
    preparation of another library. features: the network and a batch → (n, dim). suffix: of the
    files of weights: ".pth" or ".safetensors".
    """

    make: Callable[[], Module]
    transform: Optional[Callable[[Module], Callable[[Any], torch.Tensor]]]
    features: Callable[[Module, torch.Tensor], torch.Tensor]
    suffix: str


def import_torchvision() -> Any:
    """torchvision, also where its build is for GPUs and that of torch is not."""
    try:
        import torchvision
    except RuntimeError:
        # Two operators, which no network here uses, are missing then.
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


def _from_torchvision(name: str, prepares: bool) -> Peer:
    models = import_torchvision().models

    def features(network: Module, batch: torch.Tensor) -> torch.Tensor:
        last = network.fc if hasattr(network, "fc") else network.classifier[-1]
        found: list[torch.Tensor] = []
        hook = last.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        network(batch)
        hook.remove()
        return found[0]

    return Peer(
        lambda: models.get_model(name),
        (lambda _: models.get_model_weights(name)["IMAGENET1K_V1"].transforms()) if prepares else None,
        features,
        ".pth",
    )


def from_timm(name: str) -> Peer:
    """The network that timm calls ``name``."""
    import_torchvision()
    import timm

    return Peer(
        lambda: timm.create_model(name),
        lambda network: timm.data.create_transform(**timm.data.resolve_model_data_config(network)),
        lambda network, batch: network.forward_head(network.forward_features(batch), pre_logits=True),
        ".safetensors",
    )


# Whether headstart prepares pictures as torchvision does for these weights; else as timm for its own.
_TORCHVISION = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "mobilenet_v3_large"), True),
    **{"efficientnet_b0": True, "efficientnet_b1.ft_in1k": False, "efficientnet_b2": False},
    **{"convnext_tiny": False, "convnext_small": False},
}
# By what name timm makes them.
_TIMM = {
    "resnet50": "resnet50.tv_in1k",
    **{name: name for name in ("efficientnet_b0", "efficientnet_b1", "efficientnet_b1.ft_in1k", "efficientnet_b2")},
    **{f"tf_efficientnet_b{number}": f"tf_efficientnet_b{number}" for number in range(3)},
    **{name: name for name in ("mobilenetv3_large_100", "convnext_tiny", "convnext_small")},
}

# By headstart's name of the network, and the library that made the file.
NETWORKS: dict[tuple[str, str], Callable[[], Peer]] = {
    **{
        (name, "torchvision"): partial(_from_torchvision, name.removesuffix(".ft_in1k"), prepares)
        for name, prepares in _TORCHVISION.items()
    },
    **{(name, "timm"): partial(from_timm, theirs) for name, theirs in _TIMM.items()},
}
