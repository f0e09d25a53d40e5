"""Made-up data and what a head is built from, as the stages before training would leave them."""

import numpy as np

from stages.backbones import parameters, zoo
from stages.classifier.model.trained import Chosen
from stages.common.settings.params import Train
from stages.features.stored.records import FeaturesInfo, Work


def clouds(classes=4, per_class=10, dim=16, spread=0.3, seed=0):
    """Features (float32 NDArray) around one centre per class, and their labels, shuffled."""
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(classes * per_class) % classes)
    features = centres[labels] + spread * rng.standard_normal((len(labels), dim))
    return features.astype(np.float32), labels


def settings(**values):
    """The section ``train`` of the params: full batches of all data and no dropout, unless told otherwise.

    ``values`` may be beyond what params.yaml can have.
    """
    given = {"optimizer": "adam", "lr": 0.05, "epochs": 3, "batch_size": 1000, "weight_decay": 0.0, "seed": 0}
    given |= {"schedule": "constant", "class_weights": "none", "refit": False}
    return Train(**given, dropout=0.0, trainable="last").model_copy(update=values)


def network():
    """The backbone that ``data/weights`` is of, with the weights there."""
    info = parameters.read_info()
    return zoo.load(info.backbone, sha256=info.sha256)


def features_info(**values):
    """About the features of that backbone, three classes unless told otherwise."""
    weights = parameters.read_info()
    given = {
        "backbone": weights.backbone, "cut": "pool", "resize": "crop", "precision": "float32",
        "weights": weights.sha256, "calibration": "", "dim": 256, "dtype": "float16", "fingerprint": "12",
        "cpu": "AVX2", "classes": ["cat", "dög", "red panda"],
    }  # fmt: skip
    return FeaturesInfo(**{**given, **values})


def chosen(**values):
    """What might have been best of the settings of a training."""
    return Chosen(**{"lr": 0.01, "weight_decay": 0.0, "epochs": 2, "temperature": 1.0, **values})


def featurizing():
    """What ``featurize`` might have taken."""
    seconds = {"seconds": 40.0, "seconds_read": 0.25, "seconds_cache": 0.0, "seconds_decode": 61.0}
    return Work(forward_passes=60, reused=40, workers=2, nodes=1, shipped=0, **seconds, seconds_forward=3.0)
