"""Centred median over time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.detection.timeline import CELL_S
from streamer.types import Samples


def median_width(seconds: float) -> int:
    """The number of cells, odd, that is nearest to a length."""
    return 2 * max(0, round((seconds / CELL_S - 1) / 2)) + 1


def median(scores: Samples, width: int) -> Samples:
    """(n,) or (n, k): the median of the `width` (odd) rows around each; the first and last row go on."""
    if width == 1 or not scores.size:
        return scores
    around = scores.T[..., _around(len(scores), width)]  # (k, n, width)
    around.partition(width // 2)
    return np.asarray(around[..., width // 2].T)


@lru_cache(maxsize=16)
def _around(n: int, width: int) -> npt.NDArray[np.intp]:
    """(n, width): the places around each place. The same for every hop, so made once."""
    places = np.arange(n)[:, None] + np.arange(width) - width // 2
    return np.asarray(np.clip(places, 0, n - 1), np.intp)
