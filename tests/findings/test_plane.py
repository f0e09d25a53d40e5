"""The map: kept whole, or not accepted."""

import io

import numpy as np
import pytest
from PIL import Image

from stages.common.errors import InputError
from stages.findings import plane
from stages.findings.plane import Map


def test_it_is_kept_with_its_tiles_and_damage_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sketches = np.zeros((60, 32, 32, 3), np.uint8)
    sketches[51] = 255
    plane.write(Map(paths=["a"] * 60, labels=[0] * 60, x=[1] * 60, y=[2] * 60), sketches)
    found, tiles = plane.load()
    assert found.x == [1] * 60
    sheet = np.asarray(Image.open(io.BytesIO(tiles)))
    assert sheet.shape == (64, 50 * 32, 3)
    assert sheet[40:60, 36:60].min() > 200 and sheet[:32].max() < 50
    plane.TILES.write_bytes(tiles[:-1])
    with pytest.raises(
        InputError, match="data/map/tiles.webp is damaged or of another run .*: run `dvc repro -f audit`"
    ):
        plane.load()
