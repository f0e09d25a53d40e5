"""The model card tells the truth: its program predicts what headstart predicts."""

import io
import json
import re
import struct
import subprocess
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
from PIL import Image

from bench.pictures import encoded, photo
from stages import predict
from stages.backbones import catalogue
from stages.classifier.model import trained as classifier
from stages.common.settings import params
from stages.dataset.sources.files.decode import decode
from stages.exports import card
from stages.preprocessing import pixels
from tests.conftest import BACKBONE
from tests.exports.running import TOLERANCE

pytestmark = pytest.mark.xdist_group("trained")


@pytest.fixture
def here(unsure, monkeypatch):
    monkeypatch.chdir(unsure)


def snippets(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def program(folder):
    """The program in an exported folder's card that classifies the image named on its command line."""
    return snippets((folder / "README.md").read_text(encoding="utf-8"))[0]


def info_with(**features):
    """What is known of the classifier here, but for some of its features' settings."""
    info = classifier.load().info
    return info.model_copy(update={"features": info.features.model_copy(update=features)})


def transparent(mode, size=(96, 64)):
    """A picture whose transparency changes from left to right; where it shows nothing it is coloured all the same."""
    picture = photo(80, size).convert("RGBA")
    picture.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, size[0]).astype(np.uint8), (size[1], 1))))
    return picture.convert(mode)


def palette():
    """A palette one of whose colours, that of a good part of the picture, is transparent."""
    picture = photo(81).quantize(4)
    picture.info["transparency"] = int(np.bincount(np.asarray(picture).ravel()).argmax())
    return picture


def grey16():
    """16-bit grey most of which is above 255: what is not scaled down is white."""
    return Image.fromarray(np.asarray(photo(82).convert("L")).astype(np.uint16) << 8)


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(photo(83), "JPEG", exif=exif, quality=95)


def turned_and_odd():
    """Beside its turn, its EXIF has a resolution that is written as text."""
    entries = [struct.pack("<HHIHH", 274, 3, 1, 6, 0), struct.pack("<HHI4s", 282, 2, 3, b"72\0\0")]
    block = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + b"".join(entries) + bytes(4)
    return encoded(photo(83), "JPEG", exif=block, quality=95)


PICTURES = {
    "rgb.png": encoded(photo(84), "PNG"),
    "large.jpg": encoded(photo(85, (1600, 1200)), "JPEG", quality=90),
    "cmyk.jpg": encoded(photo(86).convert("CMYK"), "JPEG", quality=95),
    "grey.jpg": encoded(photo(87).convert("L"), "JPEG", quality=95),
    "rgba.png": encoded(transparent("RGBA"), "PNG"),
    "la.png": encoded(transparent("LA"), "PNG"),
    "rgba.webp": encoded(transparent("RGBA"), "WEBP", lossless=True),
    "palette.png": encoded(palette(), "PNG", transparency=palette().info["transparency"]),
    "palette.gif": encoded(palette(), "GIF", transparency=palette().info["transparency"]),
    "grey16.png": encoded(grey16(), "PNG"),
    "grey16.tif": encoded(grey16(), "TIFF"),
    "frames.gif": encoded(photo(88), "GIF", save_all=True, append_images=[photo(89), photo(90)]),
    "frames.png": encoded(photo(91), "PNG", save_all=True, append_images=[photo(92)]),
    **{f"turned {orientation}.jpg": turned(orientation) for orientation in range(1, 9)},
    "odd.jpg": turned_and_odd(),
}


@pytest.fixture(scope="module")
def predicted(unsure, tmp_path_factory):
    """{name: (path, {class: probability})}: what stages.predict says of each of PICTURES."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, data in PICTURES.items():
        (folder / name).write_bytes(data)
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.chdir(unsure)
        assert predict.main(["--json", "--top", "100", str(folder)]) == 0
    printed.seek(0)
    answers = [json.loads(line) for line in printed]
    found = {a["image"]: {p["class"]: p["probability"] for p in a["predictions"]} for a in answers}
    return {name: (folder / name, found[str(folder / name)]) for name in PICTURES}


@pytest.mark.parametrize("mode", ["I", "F"])
def test_its_program_refuses_what_headstart_does(exported, monkeypatch, tmp_path, mode):
    grey16().convert("I").convert(mode).save(tmp_path / "a.tif")
    monkeypatch.chdir(exported)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "a.tif")])
    with pytest.raises(SystemExit, match="other numbers than 8 or 16 bits"):
        exec(program(exported), {})


@pytest.mark.parametrize("name", PICTURES)
def test_its_program_predicts_what_headstart_does(exported, predicted, monkeypatch, capsys, name):
    path, expected = predicted[name]
    monkeypatch.chdir(exported)
    monkeypatch.setattr(sys, "argv", ["", str(path)])
    names = {}
    exec(program(exported), names)
    best = max(expected, key=expected.get)
    assert capsys.readouterr().out.startswith(f"{best} ")
    wanted = [expected[label] for label in names["labels"] if label]
    np.testing.assert_allclose(names["probabilities"][0], wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_its_pixels_are_the_pipelines(here, predicted, monkeypatch, name, resize):
    path, _ = predicted[name]
    backbone = catalogue.find(BACKBONE)
    text = card.write(info_with(resize=resize), backbone, params.load().dataset, None)
    data = prepared(text, path, monkeypatch)
    image = decode(path.read_bytes(), name, pixels.least_side(backbone))
    expected = pixels.normalise(pixels.pixels(image, backbone, resize)[None], backbone)
    assert data.dtype == np.float32
    np.testing.assert_allclose(data, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet_lite1", "inceptionv3", "convnext_tiny"])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_its_pixels_are_those_the_backbone_is_given(here, tmp_path, monkeypatch, name, resize):
    photo(5, (301, 200)).save(tmp_path / "photo.png")
    backbone = catalogue.find(name)
    text = card.write(info_with(resize=resize), backbone, params.load().dataset, None)
    data = prepared(text, tmp_path / "photo.png", monkeypatch)
    image = decode((tmp_path / "photo.png").read_bytes(), "photo.png")
    expected = pixels.normalise(pixels.pixels(image, backbone, resize)[None], backbone)
    np.testing.assert_allclose(data, expected, atol=1e-5)


def prepared(text, path, monkeypatch):
    """What the card's program makes of an image, before the network."""
    monkeypatch.setattr(sys, "argv", ["", str(path)])
    names = {}
    exec(snippets(text)[0].split("session =")[0], names)
    return names["data"]


def test_its_snippets_run_as_they_stand(here, exported, unsure, capsys):
    image = unsure / "photos/dög/000.jpg"
    predict.main(["--json", str(image)])
    (best,) = json.loads(capsys.readouterr().out)["predictions"]
    both = "".join(snippets((exported / "README.md").read_text(encoding="utf-8")))
    both += "print(labels[probabilities[0].argmax()], probabilities.max())\n"
    done = subprocess.run([sys.executable, "-c", both, image], cwd=exported, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        name, _, probability = line.rpartition(" ")
        assert name == best["class"]
        assert float(probability) == pytest.approx(best["probability"], abs=TOLERANCE)


def test_it_says_what_was_measured_and_what_trained_it(here, exported):
    text = (exported / "README.md").read_text(encoding="utf-8")
    with open("metrics/test.json") as file:
        top1 = json.load(file)["top1"]
    for line in (f"| backbone | {BACKBONE} |", f"| top1 | {top1} |", "| epochs | 3 |", "| test images | 6 |"):
        assert line in text, line
    # Where on the disk it was made is nobody's business.
    assert str(exported.parent) not in text


def test_without_metrics_it_says_not_measured(here):
    text = card.write(info_with(), catalogue.find(BACKBONE), params.load().dataset, None)
    assert "| not measured | |" in text
    assert "| test images | not measured |" in text
