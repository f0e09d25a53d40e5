"""weights: the backbone's pretrained weights as one Gluon parameter file, checked tensor by tensor."""

from pathlib import Path

from stages.backbones import parameters
from stages.backbones.families import table
from stages.checkpoints import matching
from stages.checkpoints.read import read
from stages.common.disk.files import replacing, sha256
from stages.common.errors import InputError, run
from stages.common.settings import params
from stages.common.settings.layout import WEIGHTS


def main() -> None:
    """The stage."""
    chosen = params.load().backbone
    family = table.of(chosen.name)
    path, source = family.published(chosen.name) if chosen.weights == "pretrained" else own(Path(chosen.path))
    tensors = matching.for_network(chosen.name, read(path), path)
    with replacing(WEIGHTS, folder=True) as folder:
        info = parameters.save(folder, tensors, chosen.name, source, sha256(path))
    print(f"{info.backbone}: {info.parameters:,} parameters from {info.source}")


def own(path: Path) -> tuple[Path, str]:
    """The user's weights file, and what to call it. Raises InputError where it is not there."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"backbone.path: {path} {what}; with backbone.weights: file it names your weights file")
    return path, path.name


if __name__ == "__main__":
    run(main)
