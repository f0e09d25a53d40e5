"""Where everything is, relative to the root of the repository."""

from pathlib import Path

MANIFEST = Path("data/manifest.tsv")
ORIGIN = Path("data/dataset.json")
CLASSES = Path("data/classes.txt")
WEIGHTS = Path("data/weights")
WEIGHTS_FILE = WEIGHTS / "weights.params"
SPLIT = Path("data/split")
FEATURES = Path("data/features")
MODEL = Path("data/model")
MAP = Path("data/map")
METRICS = Path("metrics")
CURVES = METRICS / "curves"

SUBSETS = ("train", "valid", "test")
