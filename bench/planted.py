"""Faults planted into good data, for what looks for them: wrong labels, near-copies, foreign images."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from bench.pictures import encoded, photo
from stages.dataset.sources.files.decode import decode

# Of the sides that a crop keeps.
CROPPED = 0.95


class Item(NamedTuple):
    """An image of a data set; split: where it is to be, "" for wherever it is dealt to."""

    path: str
    class_name: str
    image: Image.Image
    split: str = ""


def digits() -> list[Item]:
    """scikit-learn's 1,797 digits, 8×8 pixels each."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.images * (255 / 16)).round().astype(np.uint8)
    return [
        Item(f"{target}/{number:04}.png", str(target), Image.fromarray(image).convert("RGB"))
        for number, (image, target) in enumerate(zip(pixels, bunch.target))
    ]


def pieces(side: int = 128) -> list[Item]:
    """scikit-image's pictures cut up, the class of a piece is its picture; without those that show next to nothing."""
    from bench.precision import installed

    found = []
    for name, picture in installed():
        for x in range(0, picture.width - side + 1, side):
            for y in range(0, picture.height - side + 1, side):
                piece = picture.crop((x, y, x + side, y + side))
                if np.asarray(piece).std() > 12:
                    found.append(Item(f"{name}/{x}-{y}.png", name, piece))
    return found


def photos(count: int = 1000, classes: int = 10, size: tuple[int, int] = (320, 240)) -> list[Item]:
    """Pictures made up (see ``bench.pictures``), of classes that mean nothing."""
    return [
        Item(f"class {number % classes}/{number:05}.jpg", f"class {number % classes}", photo((7, number), size))
        for number in range(count)
    ]


def _resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.resize((round(image.width * 0.6), round(image.height * 0.6)), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return decode(encoded(image, "JPEG", quality=40), "")


def _cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = round(image.width * CROPPED), round(image.height * CROPPED)
    x, y = random.integers(0, image.width - width + 1), random.integers(0, image.height - height + 1)
    return image.crop((int(x), int(y), int(x) + width, int(y) + height))


def _lit(factor: float) -> Callable[[Image.Image, np.random.Generator], Image.Image]:
    return lambda image, random: Image.fromarray((np.asarray(image) * factor).clip(0, 255).astype(np.uint8))


COPIES = {"60 %": _resized, "quality 40": _encoded, "crop": _cropped, "lighter": _lit(1.1), "darker": _lit(0.9)}


def copied(items: Sequence[Item], count: int, seed: int = 0) -> tuple[list[Item], dict[str, str]]:
    """``items`` and near-copies of ``count`` of them, each kind of copy as often: those in train, the copies in test.

    Returns all, and {path of a copy: path of its original}.
    """
    random, kinds = np.random.default_rng(seed), list(COPIES.items())
    found, originals = list(items), {}
    for number, row in enumerate(random.permutation(len(items))[:count].tolist()):
        kind, change = kinds[number % len(kinds)]
        item = items[row]
        path = f"{item.class_name}/copy {number} {kind.replace(' %', '')}.png"
        found[row] = item._replace(split="train")
        found.append(Item(path, item.class_name, change(item.image, random), "test"))
        originals[path] = item.path
    return found, originals


def flipped(items: Sequence[Item], share: float, seed: int = 0) -> tuple[list[Item], dict[str, str]]:
    """``items``, a ``share`` of them with another class. Returns all, and {path of such a one: its right class}."""
    random, names = np.random.default_rng(seed), sorted({item.class_name for item in items})
    found, right = list(items), {}
    for row in random.permutation(len(items))[: round(share * len(items))].tolist():
        item = items[row]
        right[item.path] = item.class_name
        found[row] = item._replace(class_name=str(random.choice([name for name in names if name != item.class_name])))
    return found, right


def mixed(items: Sequence[Item], foreign: Sequence[Item], count: int, seed: int = 0) -> tuple[list[Item], list[str]]:
    """``items`` and ``count`` of ``foreign`` under classes of these; returns all, and the paths of those."""
    random, names = np.random.default_rng(seed), sorted({item.class_name for item in items})
    chosen = [foreign[row] for row in random.permutation(len(foreign))[:count].tolist()]
    added = [Item(f"foreign/{number}.png", str(random.choice(names)), item.image) for number, item in enumerate(chosen)]
    return [*items, *added], [item.path for item in added]


def save(folder: Path, items: Sequence[Item]) -> Path:
    """Writes the images, and ``list.csv``, the table of them for ``dataset.name: list``; returns its path."""
    table = folder / "list.csv"
    for item in items:
        path = folder / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        item.image.save(path, quality=90)
    given = any(item.split for item in items)
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class"] + ["split"] * given)
        writer.writerows([item.path, item.class_name] + [item.split] * given for item in items)
    return table
