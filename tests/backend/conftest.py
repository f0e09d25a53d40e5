"""What the tests of the backend share."""

import pytest

from tests.backend.sites import Site


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)
