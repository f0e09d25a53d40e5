"""What a picture in docs/ was made of, written into the PNG file: how a test finds one that is out of date."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, PngImagePlugin

KEY = "made of"


def stamp(picture: Path, sources: Iterable[Path]) -> None:
    """Notes in ``picture`` the content of the files ``sources`` that it was made of."""
    with Image.open(picture) as image:
        image.load()
    about = PngImagePlugin.PngInfo()
    about.add_text(KEY, _digest(sources))
    image.save(picture, pnginfo=about, optimize=True)


def is_fresh(picture: Path, sources: Iterable[Path]) -> bool:
    """Whether ``sources`` are as they were when ``picture`` was stamped."""
    with Image.open(picture) as image:
        return bool(image.info.get(KEY) == _digest(sources))


def _digest(sources: Iterable[Path]) -> str:
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in sources)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
