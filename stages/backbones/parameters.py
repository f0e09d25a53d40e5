"""What ``data/weights`` holds: a backbone's parameters as one Gluon file, and what they are."""

from pathlib import Path

from stages.backbones.files import mxnet
from stages.backbones.files.binary import Tensors
from stages.common.disk import sums
from stages.common.disk.documents import Document
from stages.common.disk.files import sha256
from stages.common.errors import InputError
from stages.common.settings.layout import WEIGHTS, WEIGHTS_FILE

INFO = "weights.json"


class WeightsInfo(Document):
    """weights.json.

    backbone: its name in the catalogue. source: where the weights are from, in words. source_sha256: of the file
    they were read from; sha256: of weights.params (both hexadecimal). parameters: how many numbers there are.
    """

    backbone: str
    source: str
    source_sha256: str
    sha256: str
    parameters: int


def save(folder: Path, tensors: Tensors, backbone: str, source: str, source_sha256: str) -> WeightsInfo:
    """Writes ``tensors``, named and laid out as ``matching.for_network`` returns them, and what they are."""
    path = folder / WEIGHTS_FILE.name
    mxnet.write(path, tensors)
    info = WeightsInfo(
        backbone=backbone,
        source=source,
        source_sha256=source_sha256,
        sha256=sha256(path),
        parameters=sum(value.size for value in tensors.values()),
    )
    info.save(folder / INFO)
    sums.write([folder / INFO])
    return info


def read_info(folder: Path = WEIGHTS) -> WeightsInfo:
    """What the weights in ``folder`` are; ``zoo.load`` reads them, and checks that these are they.

    Raises InputError where that was not written down, or is damaged.
    """
    sums.check([folder / INFO], "run `dvc repro -f weights`")
    return WeightsInfo.load(folder / INFO)


def check(folder: Path = WEIGHTS) -> WeightsInfo:
    """:func:`read_info`, for weights that are whole. Raises InputError where they are missing or damaged."""
    info, path = read_info(folder), folder / WEIGHTS_FILE.name
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro`")
    if sha256(path) != info.sha256:
        raise InputError(f"{path} is damaged or was replaced (its SHA-256 is another one): run `dvc repro -f weights`")
    return info
