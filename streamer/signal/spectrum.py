"""The short-time Fourier transform that every analysis of samples uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from streamer.types import Samples


def power_spectra(
    samples: Samples, width: int, step: int, window: npt.NDArray[Any]
) -> npt.NDArray[np.floating[Any]]:
    """(n,) -> (n_frames, width // 2 + 1): squared magnitudes of frames of `width` samples, `step` apart.

    `window`, (width,), is applied to each frame. Samples after the last whole frame are left out.
    """
    frames = sliding_window_view(samples, width)[::step] * window
    return np.square(np.abs(np.fft.rfft(frames, axis=1)))
