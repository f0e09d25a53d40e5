"""What tests of the data set share."""

import pytest

from stages.dataset.sources.files.index import Index


@pytest.fixture
def index(tmp_path):
    index = Index(tmp_path / "cache")
    yield index
    index.close()
