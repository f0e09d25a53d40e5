"""Pictures made up for benchmarks and tests: the same seed gives the same picture, no two seeds the same."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
from PIL import Image


def photo(seed: Union[int, Sequence[int]], size: tuple[int, int] = (96, 64)) -> Image.Image:
    """An RGB picture that is like a photo to a codec and a network: soft light, round objects, edges, some noise.

    size: (width, height).
    """
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / max(size)
    light = rng.uniform(40, 200, 3) + (x[..., None] * rng.uniform(-90, 90, 3) + y[..., None] * rng.uniform(-90, 90, 3))
    for _ in range(6):
        centre_x, centre_y, radius = rng.uniform(0, 1), rng.uniform(0, height / max(size)), rng.uniform(0.05, 0.3)
        distance = np.hypot(x - centre_x, y - centre_y)
        cover = np.clip((radius - distance) * max(size) / 3 + 0.5, 0, 1)[..., None]
        shade = 1 - distance[..., None] / (2 * radius)
        light = light * (1 - cover) + cover * rng.uniform(0, 255, 3) * shade.clip(0.3)
    grain = rng.normal(0, 2, light.shape)
    return Image.fromarray((light + grain).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of ``image`` as a file of ``kind`` ("PNG", "JPEG", …); options: of Pillow's ``save``."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def save_folder(
    path: Union[str, Path],
    classes: Sequence[str],
    per_class: Union[int, Sequence[int]],
    size: tuple[int, int] = (96, 64),
) -> list[Path]:
    """Writes ``<path>/<class>/<n>.jpg``, all different; returns the paths, sorted.

    per_class: how many images each class has, or one number per class.
    """
    counts = [per_class] * len(classes) if isinstance(per_class, int) else per_class
    paths: list[Path] = []
    for label, (name, count) in enumerate(zip(classes, counts)):
        folder = Path(path) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            paths.append(folder / f"{number:03}.jpg")
            photo((label, number), size).save(paths[-1], quality=90)
    return sorted(paths)
