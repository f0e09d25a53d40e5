"""How a graph wants its images: which way up, and in how many channels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Batch = NDArray[np.float32]  # (n, channels, size, size)


@dataclass(frozen=True)
class Layout:
    """Of a batch of ``count`` images of ``size`` × ``size`` pixels.

    rotated: by 180°. channels: at least 3; those behind the colours are 0.
    """

    count: int
    size: int
    rotated: bool = False
    channels: int = 3

    def zeros(self) -> Batch:
        """A batch of black: float32 (count, channels, size, size)."""
        return np.zeros((self.count, self.channels, self.size, self.size), np.float32)

    def upright(self, laid: Batch) -> Batch:
        """A view of ``laid``, a batch or part of one, as (n, 3, size, size) with the images the right way up."""
        return laid[:, :3, ::-1, ::-1] if self.rotated else laid[:, :3]

    def laid(self, batch: Batch) -> Batch:
        """``batch``, (count, 3, size, size) with the images upright, as the graph wants it; itself where it is that."""
        if not self.rotated and self.channels == 3:
            return batch
        laid = self.zeros()
        self.upright(laid)[...] = batch
        return laid
