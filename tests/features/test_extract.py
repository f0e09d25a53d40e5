"""The worker's part: a feature is a function of the image alone, and a file that is none is answered for."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from bench.pictures import encoded, photo
from stages.backbones.catalogue import BACKBONES
from stages.common.errors import InputError
from stages.common.settings import params
from stages.dataset.sources.files.places import Place
from stages.engines import local
from stages.engines.contract import Work
from stages.features import identity
from stages.features.extract import Chunk, found_by, set_up
from stages.inference.environment import environment
from tests.conftest import BACKBONE

DIM = 256


@pytest.fixture
def setup(workspace, weights_file):
    """What a worker is set up by, for a small backbone and batches of up to 6."""
    folder = workspace(BACKBONE, weights_file)
    recipe = identity.current("auto", params.load().featurize, "off")
    return partial(
        set_up, recipe=recipe, parameters=folder / "data/weights/weights.params", calibration=None, batch_size=6
    )


IMAGES = [encoded(photo(seed, (80, 60)), "JPEG") for seed in range(6)]


def chunk(numbers, files=IMAGES):
    return Chunk([f"{n}.jpg" for n in numbers], [b"%d" % n for n in numbers], (), [files[n] for n in numbers])


def test_neighbours_and_the_filling_of_a_batch_do_not_change_a_bit(setup):
    # Computed as batches of 1, 2, 4 and 6.
    chunks = [chunk(n) for n in ([0], [1], [2], [3], [4], [5], [1, 0], [2, 5, 4], [3, 2, 1, 0], range(5), range(6))]
    work = Work(setup, chunks, len(chunks), environment(BACKBONES[BACKBONE], "float32"))
    alone = {}
    for _, done, result in local.engine(["cpu(0)"])(work):
        assert result.features.shape == (len(done.paths), DIM)
        assert result.decode > 0 and result.forward > 0
        for path, feature in zip(done.paths, result.features):
            assert feature.tobytes() == alone.setdefault(path, feature.tobytes())
    assert len(set(alone.values())) == 6


def test_bytes_of_the_parameters_do_as_well_as_their_file(setup):
    [there] = [set_up("cpu(0)", 1, **setup.keywords)(chunk(range(3)))().features]
    setup.keywords["parameters"] = setup.keywords["parameters"].read_bytes()
    [here] = [set_up("cpu(0)", 1, **setup.keywords)(chunk(range(3)))().features]
    assert here.tobytes() == there.tobytes()


def test_other_parameters_than_those_of_the_recipe_are_refused(setup):
    data = setup.keywords["parameters"].read_bytes()
    setup.keywords["parameters"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(InputError, match="weights.params is damaged or was replaced"):
        setup("cpu(0)", 1)


def test_what_is_no_image_is_answered_for(setup):
    start = setup("cpu(0)", 1)
    whole = start(chunk([0, 2]))()
    mixed = start(chunk(range(3), [IMAGES[0], b"no image", IMAGES[2]]))()
    assert mixed.features.tobytes() == whole.features.tobytes()
    assert {digest: str(error) for digest, error in mixed.errors.items()} == {
        b"1": "1.jpg is not an image of a kind that can be read"
    }
    none = start(chunk([0], [b""]))()
    assert len(none.features) == 0 and len(none.errors) == 1
    assert np.isfinite(whole.features).all()


# Who reads


def test_a_worker_takes_only_the_bytes_that_it_is_to_find(tmp_path):
    contents = [b"0", b"1", b"2"]
    for n, data in enumerate(contents):
        (tmp_path / f"{n}").write_bytes(data)
    digests = [hashlib.sha256(data).digest() for data in contents]
    places = [Place(str(tmp_path / f"{n}")) for n in range(3)]
    with ThreadPoolExecutor(2) as pool:
        rows = Chunk(["a", "b", "c"], digests, places)
        assert found_by(pool, rows) == contents
        assert found_by(pool, rows._replace(digests=[digests[0], digests[0], digests[2]])) is None
        (tmp_path / "1").unlink()
        assert found_by(pool, rows) is None


def test_a_worker_that_finds_other_bytes_computes_nothing(setup, tmp_path):
    (tmp_path / "a").write_bytes(IMAGES[0])
    start = setup("cpu(0)", 1)
    rows = Chunk(["a"], [hashlib.sha256(IMAGES[0]).digest()], [Place(str(tmp_path / "a"))])
    found, shipped = start(rows)(), start(rows._replace(files=[IMAGES[0]]))()
    assert found.features.tobytes() == shipped.features.tobytes() and len(found.features) == 1
    (tmp_path / "a").write_bytes(IMAGES[1])
    blind = start(rows)()
    assert blind.blind and len(blind.features) == 0 and not blind.errors
