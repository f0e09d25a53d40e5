"""Damage to files as disks, copies and people do it, to try readers with; and how much is tried.

HEADSTART_SOAK tells how many times as much is tried as in an ordinary run.
"""

import contextlib
import os
import random
import signal
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

SOAK = int(os.environ.get("HEADSTART_SOAK", 1))


def long(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that takes a minute or more: an ordinary run does without it."""
    return pytest.mark.soak(pytest.mark.skipif(SOAK == 1, reason="takes a minute or more: make soak")(test))


KINDS = ("flip", "flips", "cut", "swap", "zeros", "other")


@contextlib.contextmanager
def memory_of_at_most(size: int) -> Iterator[None]:
    """Fails where the block has more than ``size`` bytes of Python's and numpy's memory in use at once, and 2 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size + 2**21
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def seconds_of_at_most(seconds: int) -> Iterator[None]:
    """Fails where the block takes longer, as it would take for ever."""

    def fail(number: int, frame: object) -> None:
        raise AssertionError(f"it takes longer than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged(data: bytes, other: bytes, count: int, seed: object = 0) -> Iterator[tuple[str, bytes]]:
    """(kind of damage, damaged ``data``), ``count`` times, each of ``KINDS`` as often. other: a like file's bytes."""
    chance = random.Random(f"{seed}")
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        found = bytes(data)
        # Some damage does nothing, as to swap what is the same.
        while found == data:
            found = other if kind == "other" and other != data else _damaged(data, kind, chance)
        yield kind, found


def _damaged(data: bytes, kind: str, chance: random.Random) -> bytes:
    new = bytearray(data)
    if kind == "cut":
        return data[: chance.randrange(len(data))]
    if kind == "swap":
        size = chance.choice([1, 8, 64, len(data) // 4])
        a, b = sorted(chance.randrange(len(data)) for _ in range(2))
        size = min(size, b - a, len(data) - b)
        new[a : a + size], new[b : b + size] = data[b : b + size], data[a : a + size]
    elif kind == "zeros":
        start = chance.randrange(len(data))
        size = min(chance.choice([1, 16, 512, 4096]), len(data) - start)
        new[start : start + size] = bytes(size)
    else:
        for _ in range(1 if kind == "flip" else chance.randint(2, 20)):
            new[chance.randrange(len(new))] ^= 1 << chance.randrange(8)
    return bytes(new)
