"""What turns an image into a feature. ``identity`` says which recipe is in use, and stands for it in a few bytes."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """All that turns an image into a feature; what it does not name has no influence on features.

    backbone, cut: see ``backbones.catalogue``. resize, precision: see ``featurize`` in params.yaml.
    weights: SHA-256 of the parameter file. calibration: SHA-256 of what int8 needs to know of the values inside the
    backbone, "" for another precision. Both in hexadecimal.
    """

    backbone: str
    cut: str
    resize: str
    precision: str
    weights: str
    calibration: str
