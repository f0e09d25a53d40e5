"""What PyTorch makes of pictures: ``python bench/peers_parity.py NETWORK LIBRARY FOLDER``, which ``bench.parity`` runs.

Reads ``pictures.npy`` (uint8, as headstart has them for the network) with ``mean.npy`` and ``std.npy``, and the picture
files in ``pictures/``; writes the weights (``weights.pth`` or ``.safetensors``), the features of the pictures
(``features.npy``), those with the weights as they are drawn (``drawn.npy``), and how PyTorch's library prepares the
files (``prepared.npy``, 0 to 255), if it is asked. Runs in the environment of the peers.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench import peers_networks_cnn, peers_networks_vit
from bench.drawn import drawn

Module = Any  # a torch.nn.Module

NETWORKS = {**peers_networks_cnn.NETWORKS, **peers_networks_vit.NETWORKS}


def main() -> None:
    name, library, place = sys.argv[1:]
    torch.set_num_threads(1)
    folder, peer = Path(place), NETWORKS[name, library]()
    network = peer.make().eval()
    tensors = {
        key: torch.from_numpy(drawn(name, key, value.shape)) if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(tensors)
    mean, std = (np.load(folder / f"{which}.npy").astype(np.float32) for which in ("mean", "std"))
    pictures = np.load(folder / "pictures.npy").astype(np.float32) / 255
    batch = torch.from_numpy(((pictures - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        np.save(folder / "drawn.npy", peer.features(network, batch).flatten(1).numpy())
        fit_batch_norms(network, batch)
        np.save(folder / "features.npy", peer.features(network, batch).flatten(1).numpy())
    save(network, folder / f"weights{peer.suffix}")
    if peer.transform is not None:
        transform = peer.transform(network)
        files = sorted((folder / "pictures").iterdir())
        prepared = np.stack([transform(Image.open(path).convert("RGB")).numpy() for path in files])
        # By headstart's mean and standard deviation back to levels: theirs are the same, or the levels differ.
        np.save(folder / "prepared.npy", (prepared.transpose(0, 2, 3, 1) * std + mean) * 255)


def fit_batch_norms(network: Module, batch: torch.Tensor) -> None:
    """Sets what the batch norms know of their inputs to what these are for ``batch``, as training does.

    Else signals die away or grow from layer to layer, and rounding is all that is compared.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    network(batch)
    network.eval()


def save(network: Module, path: Path) -> None:
    """Writes the tensors of ``network`` to ``path``, in the format that its suffix names."""
    tensors = network.state_dict()
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save(tensors, path)


if __name__ == "__main__":
    main()
