"""The spectrogram that people see: 64 mel bands, 16 columns a second, one byte each.

Computed only where it is shown, and not by the page: Safari plays no live audio into an analyser.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.signal.spectrum import power_spectra
from streamer.types import Samples

N_BANDS = 64
COLUMNS_S = 16
"""columns a second"""
LOWEST_HZ, HIGHEST_HZ = 50.0, 8000.0
FLOOR_DB, CEILING_DB = -100.0, -10.0
"""power of a band in dB against full scale: what is shown as 0 and as 255"""

_TOGETHER = 32
"""columns that are computed at once: half a minute in one piece takes 10 MB for each page that is opened"""

Columns = npt.NDArray[np.uint8]


def columns(samples: Samples, sample_rate: int) -> Columns:
    """(n,) -> (n_columns, N_BANDS), low bands first. A column needs 1/COLUMNS_S seconds of samples."""
    hop = sample_rate // COLUMNS_S
    n = len(samples) // hop
    if n == 0:
        return np.zeros((0, N_BANDS), np.uint8)
    window, filters = _filters(sample_rate, hop)
    found: Columns = np.empty((n, N_BANDS), np.uint8)
    for first in range(0, n, _TOGETHER):
        power = power_spectra(samples[first * hop : min(n, first + _TOGETHER) * hop], hop, hop, window)
        level = 10 * np.log10(power @ filters + 1e-12)
        scaled = (level - FLOOR_DB) / (CEILING_DB - FLOOR_DB)
        found[first : first + _TOGETHER] = np.clip(255 * scaled, 0, 255)
    return found


@lru_cache(maxsize=8)
def _filters(sample_rate: int, n_fft: int) -> tuple[Samples, Samples]:
    """A Hann window of unit sum, and (n_bins, N_BANDS) triangles on the mel scale."""
    window = np.hanning(n_fft).astype(np.float32)
    window *= 2 / window.sum()
    highest = min(HIGHEST_HZ, sample_rate / 2)
    edges = np.linspace(_mel(LOWEST_HZ), _mel(highest), N_BANDS + 2)
    bins = _mel(np.fft.rfftfreq(n_fft, 1 / sample_rate))[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    # A low band may fall between two bins: it then takes the nearest one.
    empty = triangles.sum(axis=0) == 0
    nearest = np.abs(bins - centre).argmin(axis=0)
    triangles[nearest[empty], np.flatnonzero(empty)] = 1
    return window, triangles.astype(np.float32)


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(1127 * np.log1p(np.asarray(hertz) / 700))
