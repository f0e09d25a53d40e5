"""Writes a network of PyTorch's libraries as ONNX: ``python bench/peers_export.py NETWORK SIDE FOLDER``.

With random weights, from "data" to the features, for ``bench.forward``. Runs in the environment of the peers.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from bench.peers_parity import NETWORKS

OPSET = 17


class Body(torch.nn.Module):  # type: ignore[misc]
    """The network without its classifier: (n, 3, side, side) → (n, dim)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        peer = next(make for (ours, _), make in NETWORKS.items() if ours == name)()
        self.network, self.peer = peer.make().eval(), peer

    def forward(self, x: Any) -> Any:
        return self.peer.features(self.network, x).flatten(1)


def main() -> None:
    name, size, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    target = str(folder / f"{name}.float32.onnx")
    names = {"input_names": ["data"], "output_names": ["features"], "dynamic_axes": {"data": {0: "n"}}}
    body, example = Body(name), torch.zeros(1, 3, size, size)
    # What is made in the first pass is no part of the graph.
    body(example)
    # Without the newer exporter's own dependencies.
    torch.onnx.export(body, (example,), target, opset_version=OPSET, dynamo=False, **names)


if __name__ == "__main__":
    main()
