"""The trained classifier: how its features come about, and its head."""

from stages.classifier import head
from stages.common.errors import InputError
from stages.common.files import read_json
from stages.common.layout import MODEL, WEIGHTS
from stages.features import compute as features

FILES = [MODEL / "head.json", MODEL / "head.params", WEIGHTS / "weights.json", WEIGHTS / "weights.params"]


def load(context):
    """Returns (features.Recipe, head.Head on ``context``, what ``head.json`` says about it as a dict).

    Raises InputError where nothing is trained, or where data/weights is not what it was trained on.
    """
    missing = [path for path in FILES if not path.is_file()]
    if missing:
        raise InputError(f"there is no trained classifier here ({missing[0]} is missing): run `dvc repro` first")
    about = read_json(MODEL / "head.json")
    trained = features.Recipe(*(about[name] for name in features.Recipe._fields))
    if features.recipe(trained.cut, trained) != trained:
        raise InputError("data/weights is not what the classifier in data/model was trained on: run `dvc repro`")
    network, about = head.load(context)
    return trained, network, about
