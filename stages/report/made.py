"""What made a classifier, in the words of params.yaml."""

import json
from typing import Any

from stages.classifier.model.trained import HeadInfo
from stages.common.settings import params
from stages.dataset.sources import table


def made_of(given: params.Params, info: HeadInfo, test_images: int) -> dict[str, dict[str, str]]:
    """{heading: {name: what to say}}; keys that make no difference there are left out."""
    features, weights = info.features, info.weights
    data = [("dataset.name", given.dataset.name)]
    data += [(f"dataset.{key}", getattr(given.dataset, key)) for key in table.of(given.dataset).keys]
    data += [(f"split.{name}", value) for name, value in given.split]
    # What lies between the cut and the new layer: nothing, where the network is cut at its last pooling.
    nothing_between = features.cut == "pool"
    training = [(name, value) for name, value in info.train if not (name == "trainable" and nothing_between)]
    return {
        "Data": {
            **{name: shown(value) for name, value in data},
            "classes": str(len(features.classes)),
            "images": f"{info.train_images:,} train, {info.valid_images:,} valid, {test_images:,} test",
        },
        "Backbone": {
            "network": features.backbone,
            "weights": weights.source,
            "SHA-256": weights.source_sha256[:12],
            "parameters": f"{weights.parameters:,}",
        },
        "Features": {
            "cut": features.cut,
            "resize": features.resize,
            "precision": features.precision,
            "dim": str(features.dim),
            "dtype": features.dtype,
        },
        "Training": {name: shown(value) for name, value in training},
    }


def shown(value: Any) -> str:
    """A value as in params.yaml: ``null``, ``true``, ``[0.1, 0.01]``."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
