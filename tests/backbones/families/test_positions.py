import numpy as np
import pytest

from stages.backbones.families import positions

# torch.nn.functional.interpolate, mode "bicubic", of the squares of 0 to 5 as a row in each of 6 rows, to 4 × 4: with
# antialias, and with the scale factor (4 + 0.1) / 6.
NOTED = {True: [0.158574, 2.977029, 10.886678, 22.278318], False: [0.115017, 2.643422, 10.228516, 22.193266]}


def table(side, width=1):
    values = np.random.default_rng(0).standard_normal((1, 1 + side**2, width))
    return values.astype(np.float32)


@pytest.mark.parametrize("antialias", [True, False])
def test_as_pytorch_does_it(antialias):
    row = np.arange(6, dtype=np.float32) ** 2
    given = np.concatenate([[7], np.tile(row, 6)])[None, :, None]
    found = positions.resized(given, 4, antialias, 0 if antialias else 0.1)
    assert found.shape == (1, 17, 1) and found.dtype == np.float32 and found[0, 0, 0] == 7
    np.testing.assert_allclose(found[0, 1:, 0].reshape(4, 4), np.tile(NOTED[antialias], (4, 1)), atol=1e-5)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("side", [3, 8])
def test_a_table_that_is_the_same_everywhere_stays_so(antialias, side):
    given = np.full((1, 26, 2), 3, np.float32)
    np.testing.assert_allclose(positions.resized(given, side, antialias), np.full((1, 1 + side**2, 2), 3), rtol=1e-6)


def test_rows_and_columns_are_not_mixed_up():
    given = table(5)
    turned = given.copy()
    turned[0, 1:, 0] = given[0, 1:, 0].reshape(5, 5).T.ravel()
    ours, other = (positions.resized(each, 3, True)[0, 1:, 0].reshape(3, 3) for each in (given, turned))
    np.testing.assert_allclose(ours, other.T, atol=1e-6)


@pytest.mark.parametrize("rows", [26, 24])
def test_a_table_that_fits_or_is_no_square_stays_as_it_is(rows):
    given = np.ones((1, rows, 2), np.float32)
    np.testing.assert_array_equal(positions.resized(given, 5, True), given)
