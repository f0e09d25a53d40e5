"""Transformers against timm and OpenCLIP with the same weights: ``python -m bench.parity_vit [NETWORK…]``.

Prints a row of Markdown for each network and kind of file: how far the largest difference of a feature is from zero, as
a share of the largest feature; the cosine of bfloat16's; how far the pixels are apart in the mean, in levels of 255.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import skimage.data

from bench.prepare import PEERS
from stages.backbones import matching, zoo
from stages.backbones.catalogue import BACKBONES
from stages.backbones.files.read import read
from stages.backend.mx import mx
from stages.dataset.files.decode import decode
from stages.inference import pixels
from stages.inference.compile import compiled

PICTURES = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")


def rows(name: str, folder: Path) -> Iterator[str]:
    """The rows of the table of the backbone ``name``."""
    backbone = BACKBONES[name]
    images = [decode(path.read_bytes(), path.name) for path in sorted((folder / "pictures").iterdir())]
    batch = pixels.normalise(np.stack([pixels.pixels(image, backbone, "crop") for image in images]), backbone)
    np.save(folder / f"{name}.npy", batch)
    subprocess.run([PEERS, "bench/peers_networks_vit.py", name, folder], check=True)
    expected, theirs = (np.load(folder / f"{name}.{what}.npy") for what in ("features", "theirs"))
    levels = np.abs((batch - theirs) * np.array(backbone.std).reshape(3, 1, 1)).mean() * 255
    for path in sorted(path for kind in ("safetensors", "pth") for path in folder.glob(f"{name}.*.{kind}")):
        network = zoo.build(name)
        fitted = matching.for_network(name, read(path), path)
        parameters = zoo.named_parameters(network)
        network.collect_params().load_dict({p.name: mx.nd.array(fitted[key]) for key, p in parameters.items()})
        body = zoo.body(network, "pool")
        ours, rounded = (compiled(body, batch.shape, kind)(batch).asnumpy() for kind in ("float32", "bfloat16"))
        error = np.abs(ours - expected).max() / np.abs(expected).max()
        norms = np.linalg.norm(rounded, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = ((rounded * expected).sum(axis=1) / norms).min()
        apart = np.abs(expected[0] - expected[1]).max() / np.abs(expected).max()
        kind = path.name.removeprefix(f"{name}.")
        yield f"| {name} | {kind} | {error:.1e} | {cosine:.4f} | {levels:.2f} | {apart:.2f} |"
        path.unlink()


def main(names: Sequence[str]) -> None:
    print("| network | file | largest difference | bfloat16's cosine | pixels | between pictures |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "pictures").mkdir()
        for picture in PICTURES:
            source = Path(skimage.data.__file__).parent / picture
            (folder / "pictures" / picture).write_bytes(source.read_bytes())
        for name in names or [name for name, its in BACKBONES.items() if its.family in ("vit", "clip")]:
            for row in rows(name, folder):
                print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
