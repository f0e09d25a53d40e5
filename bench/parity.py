"""The features of every network against those of PyTorch's libraries: ``python -m bench.parity [NETWORK…]``.

The same weights, random and saved by the library in the file that people have, and the same pixels: the compiled
features' largest difference as a share of the largest feature, in float32, and the worst picture's cosine in the other
precisions. Then the pixels: the mean difference of the library's own preparation of the photos, in levels of 255.
Prints Markdown. ``--golden`` also writes the numbers that ``tests/backbones/families/test_golden.py`` holds them to.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench import precision
from bench.prepare import PEERS, computable
from stages.backbones import catalogue, zoo
from stages.checkpoints import matching
from stages.checkpoints.read import read
from stages.common.errors import InputError
from stages.dataset.sources.files.decode import decode
from stages.inference import calibrate
from stages.inference.compile import compiled
from stages.preprocessing import pixels

Features = NDArray[np.float32]  # (photos, dim)

PHOTOS = ("cat", "coffee", "astronaut", "rocket", "retina", "brick")
# What ``--golden`` is for, and how many photos and numbers of each it keeps.
GOLDEN = Path("tests/backbones/families/golden.json")
GOLDEN_NETWORKS = {
    ("resnet18", "torchvision"),
    ("resnet50", "timm"),
    ("efficientnet_b0", "timm"),
    ("efficientnet_b0", "torchvision"),
    ("tf_efficientnet_b1", "timm"),
    ("mobilenetv3_large_100", "timm"),
    ("mobilenet_v3_large", "torchvision"),
    ("convnext_tiny", "timm"),
    ("convnext_tiny", "torchvision"),
    ("vit_small_patch16_224", "timm"),
    ("vit_small_patch14_dinov2", "timm"),
    ("vit_small_patch14_reg4_dinov2", "timm"),
    ("vit_small_patch14_reg4_dinov2", "meta"),
    ("clip_vit_b32", "open_clip"),
    ("clip_vit_b32_quickgelu", "open_clip"),
}
GOLDEN_PHOTOS, GOLDEN_NUMBERS = 2, 8


KINDS = ("bfloat16", "int8")


class Found(NamedTuple):
    """One network as a library has it. error, bfloat16, int8, levels: see above; None for what is not computed."""

    network: str
    library: str
    error: float
    bfloat16: Optional[float]
    int8: Optional[float]
    levels: Optional[float]

    def __str__(self) -> str:
        rounded = ("" if cosine is None else f"{cosine:.5f}" for cosine in (self.bfloat16, self.int8))
        levels = "" if self.levels is None else f"{self.levels:.2f}"
        return f"| {self.network} | {self.library} | {self.error:.1e} | {' | '.join(rounded)} | {levels} |"


HEADER = "| network | weights of | float32, error | bfloat16, cosine | int8, cosine | pixels, levels |"


def networks() -> list[tuple[str, str]]:
    """The networks that the peers make, and the library whose files each is compared by."""
    script = "from bench.peers_parity import NETWORKS; import json; print(json.dumps(list(NETWORKS)))"
    return [(name, library) for name, library in json.loads(_peers("-c", script))]


def _peers(*arguments: str) -> str:
    """What Python of the peers' environment prints."""
    variables = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([PEERS, *arguments], env=variables, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def photos() -> list[Image.Image]:
    """scikit-image's ``PHOTOS``."""
    found = dict(precision.installed())
    return [found[name] for name in PHOTOS]


def compare(name: str, library: str, folder: Path, kinds: Sequence[str] = KINDS) -> tuple[Found, Features]:
    """Compares ``name`` as ``library`` has it, in the empty ``folder``; rounded to which ``kinds``.

    Returns also the library's features with the weights as they are drawn, for the golden numbers.
    """
    backbone = catalogue.find(name)
    (folder / "pictures").mkdir()
    for number, picture in enumerate(photos()):
        picture.save(folder / "pictures" / f"{number:02}.png")
    files = sorted((folder / "pictures").iterdir())
    images = np.stack([pixels.pixels(decode(file.read_bytes(), name), backbone, "crop") for file in files])
    for what, array in (("pictures", images), ("mean", np.array(backbone.mean)), ("std", np.array(backbone.std))):
        np.save(folder / f"{what}.npy", array)
    _peers("bench/peers_parity.py", name, library, str(folder))
    theirs, prepared = np.load(folder / "features.npy"), folder / "prepared.npy"
    levels = float(np.abs(np.load(prepared) - images).mean()) if prepared.exists() else None
    (weights,) = folder.glob("weights.*")
    body = loaded(name, weights)
    batch = pixels.normalise(images, backbone)
    computed = (features(body, batch, backbone, kind) if kind in kinds else None for kind in KINDS)
    bfloat16, int8 = (_cosine(each, theirs) for each in computed)
    error = np.abs(features(body, batch, backbone, "float32") - theirs).max() / np.abs(theirs).max()
    return Found(name, library, float(error), bfloat16, int8, levels), np.load(folder / "drawn.npy")


def loaded(name: str, path: Path) -> Any:
    """The frozen body of ``name`` with the weights in the file ``path``."""
    return zoo.body(zoo.filled(name, matching.for_network(name, read(path), path)), "pool")


def features(body: Any, batch: Features, backbone: catalogue.Backbone, kind: str) -> Optional[Features]:
    """The compiled ``body``'s features of the ``batch`` in precision ``kind``; None where it is not computed in it."""
    if not computable(kind):
        return None
    try:
        calibration = calibrate.measure(body, backbone) if kind == "int8" else None
        found: Features = compiled(body, batch.shape, kind, calibration=calibration)(batch).asnumpy()
    except InputError:
        return None
    return found


def _cosine(ours: Optional[Features], theirs: Features) -> Optional[float]:
    if ours is None:
        return None
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())


def rows(names: Sequence[str], golden: bool = False) -> Iterator[Found]:
    """Compares the networks called ``names``, or all; with ``golden`` those that ``GOLDEN`` has, and writes it."""
    kept: dict[str, Any] = {}
    for name, library in networks():
        if (names and name not in names) or (golden and (name, library) not in GOLDEN_NETWORKS):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found, drawn = compare(name, library, Path(folder), () if golden else KINDS)
        kept[f"{name} {library}"] = [
            {"first": row[:GOLDEN_NUMBERS].tolist(), "length": float(np.linalg.norm(row))}
            for row in drawn[:GOLDEN_PHOTOS]
        ]
        yield found
    if golden:
        GOLDEN.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--golden", action="store_true")
    asked = parser.parse_args()
    print(HEADER, "|---|---|---|---|---|---|", sep="\n")
    for row in rows(asked.names, asked.golden):
        print(row, flush=True)


if __name__ == "__main__":
    main()
