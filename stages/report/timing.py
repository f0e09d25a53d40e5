"""metrics/timing.json: what the features and the training took."""

from collections.abc import Sequence

import numpy as np

from stages.common.disk.documents import Document
from stages.features.stored.records import Work


class Timing(Document):
    """forward_passes: how many images went through the network; reused: how many did not need to.

    images_per_second: of both. seconds_per_epoch: the mean of all epochs, validation included.
    """

    featurize_seconds: float
    images_per_second: float
    forward_passes: int
    reused: int
    seconds_per_epoch: float

    @classmethod
    def of(cls, work: Work, epochs: Sequence[float]) -> "Timing":
        """epochs: what each took, in seconds."""
        return cls(
            featurize_seconds=work.seconds,
            # The clock is read to 1/100 s.
            images_per_second=round(work.images / max(work.seconds, 0.01), 2),
            forward_passes=work.forward_passes,
            reused=work.reused,
            seconds_per_epoch=round(float(np.mean(epochs)), 4),
        )
