"""One channel out of many."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from streamer.types import Samples

Channel: TypeAlias = Literal["mix"] | int
"""the mean of all channels, or one of them, counted from 1"""


def to_mono(samples: Samples, channel: Channel) -> Samples:
    """(channels, n) -> (n,), a copy."""
    if channel == "mix":
        mean: Samples = np.mean(samples, axis=0, dtype=np.float32)
        return mean
    one: Samples = samples[channel - 1].copy()
    return one
