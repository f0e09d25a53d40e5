"""The forward pass against PyTorch, ONNX Runtime and OpenVINO, on the same cores: ``python -m bench.forward``.

Every engine is a process of its own (headstart's workers are one per core) that lives through the comparison; they
are asked by turns, and what counts is the median of the rounds' ratios. Peers that can run in several ways run in
each. Needs `.venv-peers` (`make bench` makes it). ``python -m bench.forward NETWORK…`` compares others, of
``bench.prepare.FURTHER``.
"""

import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.contest import CORES, Contestant, compare, row
from bench.prepare import FURTHER, NETWORKS, computable, prepare
from bench.table import Row

OURS = Contestant("headstart", CORES)
TORCH, CHANNELS_LAST = Contestant("torch"), Contestant("torch_channels_last")
ONNXRUNTIME = (Contestant("onnxruntime"), Contestant("onnxruntime", CORES))
OPENVINO = (Contestant("openvino"), Contestant("openvino_throughput"))
AGAINST: dict[str, Sequence[Contestant]] = {
    "float32": (TORCH, CHANNELS_LAST, *ONNXRUNTIME, *OPENVINO),
    "bfloat16": (CHANNELS_LAST, *OPENVINO),
    "int8": (*ONNXRUNTIME, *OPENVINO),
}
# VGG16 takes its time.
ROUNDS = {"vgg16": 3}
ALL = ("torch", "torch_channels_last", "onnxruntime", "openvino")
# What headstart is to reach, as a multiple of each peer's rate.
AIMS = {
    ("efficientnet_lite0", "float32"): {"torch_channels_last": 3.0, "openvino": 1.0, "onnxruntime": 1.0},
    ("efficientnet_lite0", "bfloat16"): {"openvino": 1.0},
    ("efficientnet_lite0", "int8"): {"onnxruntime": 1.0, "openvino": 1.0},
    ("vgg16", "float32"): {"torch": 1.0, "torch_channels_last": 1.0, "onnxruntime": 1.0, "openvino": 1.0},
    ("vgg16", "bfloat16"): {"openvino": 0.95},
    ("vgg16", "int8"): {"onnxruntime": 1.0},
    **{("resnet50", precision): dict.fromkeys(ALL, 1.0) for precision in ("float32", "bfloat16")},
    **{
        (network, precision): dict.fromkeys(ALL, 0.9)
        for network in FURTHER
        if network != "resnet50"
        for precision in ("float32", "bfloat16")
    },
}


def rows(folder: Path, networks: Sequence[str] = NETWORKS) -> Iterator[Row]:
    """Yields the rows of the table: headstart against every peer, and bfloat16 and int8 against float32."""
    own: dict[tuple[str, str], float] = {}
    for network, (precision, peers) in itertools.product(networks, AGAINST.items()):
        if not computable(precision, network):
            continue
        found = compare(network, precision, [OURS, *peers], ROUNDS.get(network, 7), folder)
        own[network, precision] = statistics.median(found[OURS])
        for peer in peers:
            aim = AIMS.get((network, precision), {}).get(peer.engine.replace("_throughput", ""))
            yield row(f"{network} {precision} / {peer}", found, OURS, peer, aim)
        if precision != "float32":
            pair = own[network, precision], own[network, "float32"]
            aim = 1.5 if (network, precision) == ("efficientnet_lite0", "bfloat16") else None
            yield Row(f"{network} {precision} / its own float32", *pair, "images/s", pair[0] / pair[1], aim)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        networks = sys.argv[1:] or NETWORKS
        prepare(Path(folder), networks)
        for each in rows(Path(folder), networks=networks):
            print(each)


if __name__ == "__main__":
    main()
