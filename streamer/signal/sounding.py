"""When a recording of one sound sounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_ENDS_BELOW_DB = 25.0
_GAP_S = 0.6
"""a shorter pause does not end a sound: two steps are one stretch, two barks mostly are not"""
_FRAME_S = 0.02


def sounding(samples: npt.NDArray[np.int16], rate: int) -> npt.NDArray[np.float32]:
    """(k, 2) seconds: the stretches within _ENDS_BELOW_DB of the loudest 20 ms, short pauses bridged."""
    frame = int(_FRAME_S * rate)
    n = len(samples) // frame
    if n < 1:
        return np.array([[0.0, len(samples) / rate]], np.float32)
    energy = np.square(samples[: n * frame].reshape(n, frame).astype(np.float32)).mean(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-_ENDS_BELOW_DB / 10))
    parts = np.split(loud, np.flatnonzero(np.diff(loud) > _GAP_S / _FRAME_S) + 1)
    return np.array([[part[0] * _FRAME_S, (part[-1] + 1) * _FRAME_S] for part in parts], np.float32)
