"""A head as a PyTorch user trains it, in the environment of the peers: ``python bench/torch_head.py FILE.npz``.

FILE.npz: x, y (to learn from), valid_x, valid_y, test_x, epochs, lr, dropout. Writes ``FILE.npz.out.npz``: the seconds
of each epoch, and the test logits after the epoch with the best validation accuracy.
"""

import sys
import time

import numpy as np
import torch

BATCH = 64


def main() -> None:
    given = {
        name: torch.from_numpy(value) if value.ndim else value.item() for name, value in np.load(sys.argv[1]).items()
    }
    torch.manual_seed(0)
    x, y = given["x"].float(), given["y"]
    valid_x, test_x = given["valid_x"].float(), given["test_x"].float()
    layer = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    dropout = torch.nn.Dropout(given["dropout"])
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(layer.parameters(), lr=given["lr"])
    seconds, best, kept = [], -1.0, layer(test_x)
    for _ in range(given["epochs"]):
        begun = time.perf_counter()
        total = right = 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            logits = layer(dropout(x[rows]))
            loss = loss_of(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            right += (logits.argmax(1) == y[rows]).sum().item()
        seconds.append(time.perf_counter() - begun)
        with torch.no_grad():
            logits = layer(valid_x)
            accuracy = (logits.argmax(1) == given["valid_y"]).float().mean().item()
            if accuracy > best:
                best, kept = accuracy, layer(test_x)
    np.savez(f"{sys.argv[1]}.out.npz", seconds=seconds, test=kept.detach().numpy())


if __name__ == "__main__":
    main()
