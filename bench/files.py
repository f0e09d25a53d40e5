"""From JPEG files to features on disk, against ONNX Runtime, OpenVINO and PyTorch: ``python -m bench.files``.

What a user waits for: the files are read, decoded, resized, normalised and go through the network, on all cores.
headstart's workers are those of ``featurize``, which check the digest of every file besides. A peer is a careful
script: threads decode ahead (JPEGs larger than needed at a smaller scale, by Pillow or simplejpeg) while the engine
computes. Each peer runs in the way that is its fastest here, which is tried first; then all run by turns, and what
counts is the median of the rounds' ratios. Needs `.venv-peers` (`make bench` makes it).
"""

import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.contest import CORES, Contestant, compare, row
from bench.prepare import NETWORKS, computable, prepare, save_photos
from bench.table import Row

SIZES = {"photos": (500, 375), "large": (2000, 1500)}
DECODERS = ("pillow", "simplejpeg")
ROUNDS = {"efficientnet_lite0": 7, "vgg16": 3}
TRIAL = 2

# The ways in which a peer may run. PyTorch is far behind in all of them, and tried in one.
TORCH = [("torch_channels_last", 1)]
ONNXRUNTIME = [("onnxruntime", 1), ("onnxruntime", CORES)]
OPENVINO = [("openvino", 1), ("openvino_throughput", 1), ("openvino", CORES)]
AGAINST = {
    "float32": (TORCH, ONNXRUNTIME, OPENVINO),
    "bfloat16": (TORCH, OPENVINO),
    "int8": (ONNXRUNTIME, OPENVINO),
}
# What to reach, as a multiple of each peer, and of the forward pass alone.
AIMS = {"efficientnet_lite0": 1.15, "vgg16": 1.0}
OF_FORWARD = {("efficientnet_lite0", "float32"): 0.90, ("efficientnet_lite0", "int8"): 0.75}


def fastest(network: str, precision: str, ways: Sequence[tuple[str, int]], photos: str, folder: Path) -> Contestant:
    """The peer in the way in which it makes most of the JPEGs in ``<folder>/<photos>``."""
    peers = [Contestant(*way, f"{photos}:{decoder}") for way in ways for decoder in DECODERS]
    found = compare(network, precision, peers, TRIAL, folder)
    return max(found, key=lambda peer: max(found[peer]))


def rows(folder: Path, networks: Sequence[str] = NETWORKS) -> Iterator[Row]:
    """Yields the rows of the table; ``folder`` is from ``prepare``."""
    save_photos(folder, "large", SIZES["large"])
    for network, precision, photos in itertools.product(networks, AGAINST, SIZES):
        if not computable(precision, network) or (network == "vgg16" and photos == "large"):
            continue
        ours, alone = Contestant("headstart", CORES, f"{photos}:"), Contestant("headstart", CORES)
        peers = [fastest(network, precision, ways, photos, folder) for ways in AGAINST[precision]]
        found = compare(network, precision, [ours, *peers, alone], ROUNDS[network], folder)
        width, height = SIZES[photos]
        what = f"{network} {precision}, JPEG {width}×{height} to features"
        for peer in peers:
            decoder = peer.source.split(":")[1]
            yield row(f"{what} / {peer}, {decoder}", found, ours, peer, AIMS[network])
        aim = OF_FORWARD.get((network, precision)) if photos == "photos" else None
        yield row(f"{what} / forward alone", found, ours, alone, aim)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        networks = sys.argv[1:] or NETWORKS
        prepare(Path(folder), networks)
        for each in rows(Path(folder), networks):
            print(each, flush=True)


if __name__ == "__main__":
    main()
