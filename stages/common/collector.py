"""Python's garbage collector, out of the way of work that makes millions of tuples."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Lets the collector not look for reference cycles within the block: that can double the time, and finds none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
