"""The garbage collector is off within a block, and afterwards as it was."""

import gc

import pytest

from stages.common import collector


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_afterwards_as_it_was(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with collector.off():
            assert not gc.isenabled()
            with collector.off():
                pass
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with pytest.raises(KeyError), collector.off():
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
