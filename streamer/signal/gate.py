"""Silence gate: no inference for a window whose newest hop is as quiet as the background in every octave."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.signal.level import FAST_S
from streamer.signal.percentile import percentile
from streamer.signal.spectrum import power_spectra
from streamer.types import Window

_EDGES_HZ = np.array([88.0, 177.0, 354.0, 707.0, 1414.0, 2828.0, 5657.0, 11314.0])
"""edges of octaves: a whistle that is below the noise of all bands stands out in its own"""
_LEAST_FRAME_S = FAST_S / 2
"""shortest frame, also where a clock was set and next to nothing is new: a shorter one has fewer octaves"""
_KEEP_S = 60.0
_SHARE = 30  # percentile of the last minute that is the background
_MARGIN_DB = 2.0
_DEVIATIONS = 3.5
"""standard deviations of the level of noise in a narrow band in a short time"""
_SILENCE_DB = -100.0


class Gate:
    """Says of each window, in order, whether it has to be scored. It depends on samples alone, not on scores,
    so the answer is the same live and offline.

    A window is skipped when its hop is as quiet as the background in every octave, and so were the hops of
    the `hold_s` before. At the latest after half a window one is scored all the same: so the model sees every
    moment, and most of them twice.
    """

    def __init__(self, hop_s: float, hold_s: float) -> None:
        self.hold_s = hold_s
        self._hop_s = hop_s
        self._learn_s = max(20.0, 10 * hop_s)
        self._end = -np.inf
        self._restart()

    def _restart(self) -> None:
        self._past: npt.NDArray[np.float64] = np.zeros((0, 0))
        """(n, n_octaves), the levels of the last minute"""
        self._heard_s = 0.0
        self._scored_at = -np.inf
        self.loud_at = -np.inf
        """end of the latest window whose newest hop was louder than the background, or the first ones"""

    def wants(self, window: Window) -> bool:
        """Call it once a window. Where time breaks off, the background is learned anew."""
        new_s = window.end - self._end
        if not 0 < new_s <= window.end - window.start:
            self._restart()
            new_s = self._hop_s
        self._end = window.end
        self._heard_s += new_s
        levels, deviations = _octaves(window, new_s)
        past = self._past if self._past.size else levels[:0]
        self._past = np.concatenate((past, levels))[-round(_KEEP_S / FAST_S) :]
        if self._heard_s < self._learn_s or window.has_gap:
            self.loud_at = window.end
        else:
            floor = np.maximum(percentile(past, _SHARE), _SILENCE_DB)
            if (levels > floor + _MARGIN_DB + _DEVIATIONS * deviations).any():
                self.loud_at = window.end
        half_s = (window.end - window.start - self._hop_s) / 2
        is_wanted = window.end - self.loud_at <= self.hold_s or window.end - self._scored_at >= half_s
        if is_wanted:
            self._scored_at = window.end
        return is_wanted


def _octaves(window: Window, new_s: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Levels in dB of the newest seconds, (n_frames, n_octaves), and how far noise strays in each."""
    n_frames = max(1, round(new_s / FAST_S))
    n_new = max(n_frames, round(new_s * window.sample_rate))
    size = max(n_new // n_frames, round(_LEAST_FRAME_S * window.sample_rate))
    taper, bins, deviations = _bands(size, window.sample_rate)
    power = power_spectra(window.samples[-n_frames * size :], size, size, taper) / size**2
    return 10 * np.log10(np.add.reduceat(power, bins, axis=1) + 1e-14), deviations


@lru_cache(maxsize=16)
def _bands(
    size: int, sample_rate: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Of frames of a size: (size,) the taper, (n_octaves,) the first bins, and how far noise strays in dB."""
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    bins = np.searchsorted(frequencies, _EDGES_HZ)
    bins = np.unique(bins[bins < len(frequencies)])
    if not bins.size:
        bins = np.zeros(1, np.intp)
    n_bins = np.diff(np.append(bins, len(frequencies)))
    return np.hanning(size + 2)[1:-1], bins, 4.34 / np.sqrt(np.maximum(1, n_bins / 1.5))
