"""What training leaves in ``data/model``: the head's parameters, and all that is needed to use them.

``head.params`` holds every layer behind the cut, in order, frozen or not, as Gluon's ``save_parameters`` writes a
sequence of them.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.backbones import parameters
from stages.backbones.files import mxnet
from stages.classifier.scores import Logits
from stages.common.disk import sums
from stages.common.disk.documents import Document
from stages.common.disk.files import replacing, sha256
from stages.common.errors import InputError
from stages.common.settings import params
from stages.common.settings.layout import MODEL, WEIGHTS_FILE
from stages.features.stored.records import ABOUT, Features, FeaturesInfo

PARAMS, INFO = MODEL / "head.params", MODEL / "head.json"


class Chosen(Document):
    """What of the ``train`` settings the head was trained by.

    epochs: for how many. temperature: what its logits were divided by afterwards, by the weights of its last layer.
    """

    lr: float
    weight_decay: float
    epochs: int
    temperature: float


class HeadInfo(Document):
    """head.json.

    features: what the head was trained on. weights: of the backbone they were computed with, and the frozen layers
    taken from. train: the settings of the training; chosen: what was best of them.
    train_images, valid_images: how many there were.
    sha256: of head.params, in hexadecimal.
    """

    features: FeaturesInfo
    weights: parameters.WeightsInfo
    train: params.Train
    chosen: Chosen
    train_images: int
    valid_images: int
    sha256: str


class Trained(NamedTuple):
    """A trained head, to be used without MXNet, which takes longer to load than most tests take.

    values: of all its parameters by name, layer after layer; weights are (outputs, inputs), biases (outputs,).
    info: what is known about it.
    """

    values: Mapping[str, NDArray[np.float32]]
    info: HeadInfo

    @property
    def dense(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Weight and bias of each dense layer. Those before the last are AlexNet's or VGG's, with a ReLU each."""
        arrays = list(self.values.values())
        return list(zip(arrays[::2], arrays[1::2]))

    def logits(self, features: Features, rows: int = 1024) -> Logits:
        """Those (n, classes) of features (n, dim), computed in blocks of so many ``rows``."""
        *inner, (weight, bias) = self.dense
        logits = np.empty((len(features), len(bias)), np.float32)
        for start in range(0, len(features), rows):
            x = features[start : start + rows].astype(np.float32)
            for matrix, offset in inner:
                x = np.maximum(x @ matrix.T + offset, 0)
            logits[start : start + rows] = x @ weight.T + bias
        return logits


def save(
    values: Mapping[str, NDArray[np.float32]],
    features: FeaturesInfo,
    weights: parameters.WeightsInfo,
    train: params.Train,
    chosen: Chosen,
    train_images: int,
    valid_images: int,
) -> None:
    """Writes ``data/model``, whole or not at all. values: of the head's parameters (``Head.values``); the others: see
    :class:`HeadInfo`.
    """
    with replacing(MODEL, folder=True) as folder:
        path = folder / PARAMS.name
        mxnet.write(path, values)
        HeadInfo(
            features=features,
            weights=weights,
            train=train,
            chosen=chosen,
            train_images=train_images,
            valid_images=valid_images,
            sha256=sha256(path),
        ).save(folder / INFO.name)
        sums.write([folder / INFO.name])


def load() -> Trained:
    """The trained head.

    Raises InputError where nothing is trained, or where what is there is damaged or of another version.
    """
    for path in (INFO, PARAMS):
        if not path.is_file():
            raise _not_trained(path)
    sums.check([INFO], "run `dvc repro -f train`")
    info = HeadInfo.load(INFO)
    data = PARAMS.read_bytes()
    if hashlib.sha256(data).hexdigest() != info.sha256:
        raise InputError(f"{PARAMS} is damaged (its SHA-256 is not the one in {INFO.name}): run `dvc repro -f train`")
    trained = Trained(mxnet.read(data), info)
    widths = [info.features.dim, *(len(bias) for _, bias in trained.dense)]
    shapes = [shape for pair in zip(widths[1:], widths) for shape in (pair, pair[:1])]
    if [value.shape for value in trained.values.values()] != shapes or widths[-1] != len(info.features.classes):
        raise InputError(f"{PARAMS} does not fit {INFO.name}: run `dvc repro -f train`")
    return trained


def check_weights(info: HeadInfo) -> None:
    """Raises InputError where ``data/weights`` is not what the head was trained on."""
    if not WEIGHTS_FILE.is_file():
        raise _not_trained(WEIGHTS_FILE)
    if sha256(WEIGHTS_FILE) != info.features.weights:
        raise InputError("data/weights is not what the classifier in data/model was trained on: run `dvc repro`")


def check_features(info: HeadInfo) -> None:
    """Raises InputError where ``data/features`` is not of the kind that the head was trained on."""
    if FeaturesInfo.load(ABOUT) != info.features:
        raise InputError("data/features is not what the classifier in data/model was trained on: run `dvc repro`")


def _not_trained(missing: object) -> InputError:
    return InputError(f"there is no trained classifier here ({missing} is missing): run `dvc repro` first")
