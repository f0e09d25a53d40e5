"""Principal components: those that an exact decomposition finds, the same again, of any number of rows."""

import numpy as np
import pytest

from stages.findings.components import components


def test_they_are_those_of_an_exact_decomposition():
    random = np.random.default_rng(0)
    rows = (random.standard_normal((300, 40)) * 0.8 ** np.arange(40)) @ np.linalg.qr(random.standard_normal((40, 40)))[
        0
    ]
    centred = (rows - rows.mean(axis=0)).astype(np.float32)
    found = components(centred, 5)
    exact = np.linalg.svd(centred, full_matrices=False)[2][:5]
    assert abs((found.T * exact).sum(axis=1)) == pytest.approx(np.ones(5), abs=1e-3)
    assert found.T @ found == pytest.approx(np.eye(5), abs=1e-5)
    assert (components(centred, 5) == found).all()


def test_there_are_no_more_than_rows_or_columns():
    assert components(np.eye(3, 7, dtype=np.float32), 5).shape == (7, 3)
    assert components(np.eye(9, 4, dtype=np.float32), 5).shape == (4, 4)
    assert np.isfinite(components(np.zeros((6, 4), np.float32), 2)).all()
