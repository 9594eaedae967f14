"""Centred median over time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.types import Samples


def median(scores: Samples, width: int) -> Samples:
    """(n,) -> (n,): the median of the `width` (odd) scores around each; the first and last score go on."""
    if width == 1 or not scores.size:
        return scores
    return np.asarray(np.partition(scores[_around(len(scores), width)], width // 2, axis=1)[:, width // 2])


@lru_cache(maxsize=16)
def _around(n: int, width: int) -> npt.NDArray[np.intp]:
    """(n, width): the places around each place. The same for every hop and sound, so made once."""
    places = np.arange(n)[:, None] + np.arange(width) - width // 2
    return np.asarray(np.clip(places, 0, n - 1), np.intp)
