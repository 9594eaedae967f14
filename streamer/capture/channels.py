"""One channel out of many."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

import numpy as np

from streamer.types import Samples

Channel: TypeAlias = Literal["mix"] | int
"""the mean of all channels, or one of them, counted from 1"""

_CANCELLED = 0.1
"""of the power that the mean of channels has if they have nothing in common; below, they cancel each other"""
_FAINT = 1e-10
"""mean square of samples, -100 dBFS: silence says nothing about channels"""

log = logging.getLogger(__name__)


class Mixer:
    """Makes one channel of many: one of them, or the mean.

    Where the channels cancel each other, as those of a balanced microphone on a stereo input do, the mean is
    next to nothing: then it is the strongest channel, which is logged once.
    """

    def __init__(self, name: str, channel: Channel) -> None:
        """`name` is the source's, for people."""
        self._name = name
        self._channel = channel
        self._instead: int | None = None
        """the channel that is taken while they cancel"""
        self._is_logged = False

    def mono(self, samples: Samples) -> Samples:
        """(channels, n) -> (n,), a copy. In the midst of a stream there may be fewer channels than before."""
        if self._channel != "mix":
            one: Samples = samples[min(self._channel, len(samples)) - 1].copy()
            return one
        mean: Samples = np.mean(samples, axis=0, dtype=np.float32)
        if len(samples) > 1 and mean.size:
            self._compare(samples, mean)
        if self._instead is not None and self._instead < len(samples):
            strongest: Samples = samples[self._instead].copy()
            return strongest
        return mean

    def _compare(self, samples: Samples, mean: Samples) -> None:
        """Whether the channels cancel each other now; where it is silent, that stays as it is."""
        powers = np.mean(np.square(samples, dtype=np.float64), axis=1)
        power = float(powers.mean())
        if not _FAINT < power < np.inf:
            return
        if float(np.mean(np.square(mean, dtype=np.float64))) * len(samples) >= _CANCELLED * power:
            self._instead = None
            return
        if self._instead is None:
            self._instead = int(np.argmax(powers))
        if not self._is_logged:
            self._is_logged = True
            log.warning(
                "%s: its channels cancel each other: the strongest is taken; set `channel: %d` to keep to it",
                self._name,
                self._instead + 1,
            )
