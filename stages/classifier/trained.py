"""What training leaves in ``data/model``: the head's parameters, and all that is needed to use them.

``head.params`` holds every layer behind the cut, in order, frozen or not, as Gluon's ``save_parameters`` writes a
sequence of them.
"""

import hashlib
from typing import Any, NamedTuple

from stages.backbones import parameters, zoo
from stages.backbones.files import mxnet
from stages.classifier.head import Head, build
from stages.common import params, sums
from stages.common.documents import Document
from stages.common.errors import InputError
from stages.common.files import replacing, sha256
from stages.common.layout import MODEL, WEIGHTS
from stages.features.records import ABOUT, FeaturesInfo

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
    """A trained head and what is known about it."""

    head: Head
    info: HeadInfo


def save(
    head: Head,
    features: FeaturesInfo,
    weights: parameters.WeightsInfo,
    train: params.Train,
    chosen: Chosen,
    train_images: int,
    valid_images: int,
) -> None:
    """Writes ``data/model``, whole or not at all; see :class:`HeadInfo`."""
    with replacing(MODEL, folder=True) as folder:
        path = folder / PARAMS.name
        head.layers.save_parameters(str(path))
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


def load(context: Any) -> Trained:
    """The trained head, on the device ``context``.

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
    network, features = zoo.build(info.features.backbone), info.features
    try:
        head = build(network, features.cut, len(features.classes), 0.0, "last", [context], mxnet.read(data))
    except ValueError:
        raise InputError(f"{PARAMS} does not fit {INFO.name}: run `dvc repro -f train`") from None
    return Trained(head, info)


def check_weights(info: HeadInfo) -> None:
    """Raises InputError where ``data/weights`` is not what the head was trained on."""
    path = WEIGHTS / zoo.FILE
    if not path.is_file():
        raise _not_trained(path)
    if sha256(path) != info.features.weights:
        raise InputError("data/weights is not what the classifier in data/model was trained on: run `dvc repro`")


def check_features(info: HeadInfo) -> None:
    """Raises InputError where ``data/features`` is not of the kind that the head was trained on."""
    if FeaturesInfo.load(ABOUT) != info.features:
        raise InputError("data/features is not what the classifier in data/model was trained on: run `dvc repro`")


def _not_trained(missing: object) -> InputError:
    return InputError(f"there is no trained classifier here ({missing} is missing): run `dvc repro` first")
