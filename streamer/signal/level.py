"""Levels: dBFS, A-weighting, and the background of a room."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.signal.percentile import percentile
from streamer.types import SILENCE_DBFS, Samples

FAST_S = 0.125
"""time constant of a sound level meter set to `fast` (IEC 61672-1)"""


def level_dbfs(samples: Samples) -> float:
    """The root mean square in dB against full scale: a full-scale sine has -3.01, silence SILENCE_DBFS."""
    return _in_db(float(np.mean(np.square(samples, dtype=np.float64))) if samples.size else 0.0)


def levels_dbfs(samples: Samples, n: int) -> npt.NDArray[np.float64]:
    """(n,): the level of each n-th of the samples."""
    if len(samples) % n or not samples.size:
        return np.array([level_dbfs(part) for part in np.array_split(samples, n)])
    powers = np.square(samples.reshape(n, -1), dtype=np.float64).mean(axis=1).tolist()
    return np.array([_in_db(power) for power in powers])


def _in_db(power: float) -> float:
    return max(SILENCE_DBFS, 10 * math.log10(power)) if power > 0 else SILENCE_DBFS


def a_weighted(samples: Samples, sample_rate: int) -> Samples:
    """(n,) -> (n,): A-weighted (IEC 61672-1); 1 kHz stays as it is."""
    if not samples.size:
        return samples
    spectrum = np.fft.rfft(samples) * _a_gains(len(samples), sample_rate)
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


@lru_cache(maxsize=8)
def _a_gains(n: int, sample_rate: int) -> npt.NDArray[np.float64]:
    squared = np.square(np.fft.rfftfreq(n, 1 / sample_rate))
    poles = (squared + 20.598997**2) * (squared + 12194.217**2)
    middle = np.sqrt((squared + 107.65265**2) * (squared + 737.86223**2))
    return np.asarray(1.2589254 * 12194.217**2 * squared**2 / (poles * middle))


class Background:
    """Background level: the 20th percentile of the A-weighted levels of the last 60 s."""

    _KEEP_S, _LEARN_S = 60.0, 5.0
    _SHARE = 20  # percent
    _LEAST_DBFS = -75.0
    """lowest background: quieter than any room, and above digital silence"""

    def __init__(self) -> None:
        self._levels: npt.NDArray[np.float64] = np.zeros(0)

    def add(self, levels: npt.NDArray[np.float64]) -> None:
        """Levels of FAST_S each, in dB."""
        self._levels = np.concatenate((self._levels, levels))[-round(self._KEEP_S / FAST_S) :]

    @property
    def level_db(self) -> float | None:
        """dB; None during the first seconds."""
        if len(self._levels) < self._LEARN_S / FAST_S:
            return None
        return max(self._LEAST_DBFS, float(percentile(self._levels, self._SHARE)))
