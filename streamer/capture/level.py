"""How loud it is."""

from __future__ import annotations

import math

import numpy as np

from streamer.types import SILENCE_DBFS, Samples


def level_dbfs(samples: Samples) -> float:
    """The root mean square in dB against full scale: a full-scale sine has -3.01, silence SILENCE_DBFS."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if samples.size else 0.0
    return max(SILENCE_DBFS, 10 * math.log10(power)) if power > 0 else SILENCE_DBFS
