"""Kaldi-compatible log-mel features of windows, in numpy; `fbank.py` computes the same on a device of torch.

Equal, to float32 rounding, to `torchaudio.compliance.kaldi.fbank(x, window_type="hanning", num_mel_bins=M)`,
which is what `ASTFeatureExtractor` computes one clip at a time.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamer.model.config import FRAME_S, FbankConfig

Floats = npt.NDArray[np.float32]

WIDTH_S = 0.025
PREEMPHASIS = 0.97
SMALLEST = float(np.finfo(np.float32).eps)
"""energy below which a logarithm is not taken"""
_LARGEST_DENOMINATOR = 1000
_ZEROS, _ROLL_OFF = 6, 0.99
"""of the low-pass filter: zero crossings on each side, and its edge as a share of the lower Nyquist rate"""
_ROWS = 128
"""frames that are computed together, few enough to stay in the cache"""
_FEWEST_OUTPUTS = 64
"""of one product: many short rows would spend their time on being copied"""


class Fbank:
    """Audio to normalised log-mel energies."""

    def __init__(self, config: FbankConfig) -> None:
        self.config = config
        self.width, self.shift, self.n_fft = frame_sizes(config)
        self._window = hann(self.width)
        self._banks = mel_banks(config.num_mel_bins, self.n_fft, config.sampling_rate)

    def __call__(self, audio: Floats, sample_rate: int | None = None) -> Floats:
        """(B, n_samples) at `sample_rate` Hertz (the model's own where None) -> (B, max_length, M).

        Frames past the end of the audio are 0 before normalisation, as in training of the published models.
        """
        config = self.config
        if sample_rate is not None:
            audio = resample(audio, sample_rate, config.sampling_rate)
        rows = self._frames(audio[:, : (config.max_length - 1) * self.shift + self.width])
        x = np.zeros((len(audio), config.max_length, config.num_mel_bins), np.float32)
        x[:, : rows.shape[1]] = rows
        return (x - np.float32(config.mean)) / np.float32(2 * config.std) if config.do_normalize else x

    def _frames(self, audio: Floats) -> Floats:
        """(B, n_samples) -> (B, n_frames, M), neither padded nor normalised; n_frames may be 0."""
        if audio.shape[1] < self.width:
            return np.zeros((len(audio), 0, self.config.num_mel_bins), np.float32)
        # (B, n_frames, width), whole frames only
        frames = np.lib.stride_tricks.sliding_window_view(audio, self.width, axis=1)[:, :: self.shift]
        energies = np.empty((*frames.shape[:2], self.config.num_mel_bins), np.float32)
        for i in range(0, frames.shape[1], _ROWS):
            energies[:, i : i + _ROWS] = self._energies(frames[:, i : i + _ROWS])
        return np.log(energies, out=energies)

    def _energies(self, frames: Floats) -> Floats:
        x = frames - frames.mean(axis=-1, keepdims=True)
        x[..., 1:] -= np.float32(PREEMPHASIS) * x[..., :-1]
        x[..., 0] -= np.float32(PREEMPHASIS) * x[..., 0]
        x *= self._window
        spectrum = np.fft.rfft(x, self.n_fft)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        energies: Floats = np.maximum(power @ self._banks, np.float32(SMALLEST))
        return energies


def frame_sizes(config: FbankConfig) -> tuple[int, int, int]:
    """Samples of a frame, samples to the next, and points of its Fourier transform."""
    width = int(config.sampling_rate * WIDTH_S)
    return width, int(config.sampling_rate * FRAME_S), 1 << (width - 1).bit_length()


def hann(width: int) -> Floats:
    """(width,), symmetric."""
    # In float32 as the reference computes it: near digital silence the rounding shows.
    angle = np.arange(width, dtype=np.float32) * np.float32(2 * np.pi / (width - 1))
    return np.float32(0.5) - np.float32(0.5) * np.cos(angle.astype(np.float64)).astype(np.float32)


@lru_cache(maxsize=8)
def mel_banks(
    n_bins: int, n_fft: int, sample_rate: int, lowest_hz: float = 20.0, highest_hz: float | None = None
) -> Floats:
    """(n_fft / 2 + 1, n_bins): Kaldi's triangles, equally wide on the mel scale; the last row is 0.

    The highest frequency is that of Nyquist where None.
    """
    highest = sample_rate / 2 if highest_hz is None else highest_hz
    first, last = (1127.0 * math.log(1 + hertz / 700.0) for hertz in (lowest_hz, highest))
    # In float32 as the reference computes it: a narrow triangle shows the rounding of its edges.
    steps = np.arange(n_bins, dtype=np.float32)
    left, centre, right = (
        np.float32(first) + (steps + np.float32(i)) * np.float32((last - first) / (n_bins + 1))
        for i in range(3)
    )
    hertz = np.float32(sample_rate / n_fft) * np.arange(n_fft // 2, dtype=np.float32)[:, None]
    ratio = (np.float32(1) + hertz / np.float32(700)).astype(np.float64)
    at = np.float32(1127.0) * np.log(ratio).astype(np.float32)
    banks = np.minimum((at - left) / (centre - left), (right - at) / (right - centre))
    return np.pad(np.maximum(banks, 0), ((0, 1), (0, 0)))


class Resampler(NamedTuple):
    """A change of rate as one product of matrices: rows of samples by `kernel`."""

    step: int
    """samples from one row to the next"""
    before: int
    """zeros before the first sample"""
    kernel: npt.NDArray[np.float64]
    """(samples of a row, outputs of a row); in single precision its rounding would drown what is quiet"""
    up: int
    down: int

    def n_outputs(self, n_samples: int) -> int:
        return -(-n_samples * self.up // self.down)

    def n_padded(self, n_samples: int) -> int:
        """Samples with the zeros before and behind, so that whole rows hold all outputs."""
        n_inputs, n_outputs = map(int, self.kernel.shape)
        n_rows = -(-self.n_outputs(n_samples) // n_outputs)
        return (n_rows - 1) * self.step + n_inputs


@lru_cache(maxsize=16)
def resampler(old: int, new: int) -> Resampler:
    """From `old` Hertz to `new`: a sinc in a Hann window, as torchaudio's `resample` has it.

    The kernel grows with the denominator of the ratio: all usual rates are exact, 47 999 Hz is taken as
    48 000. Raises nothing.
    """
    ratio = Fraction(old, new).limit_denominator(_LARGEST_DENOMINATOR)
    down, up = ratio.numerator, ratio.denominator
    edge = min(down, up) * _ROLL_OFF
    before = int(np.ceil(_ZEROS * down / edge))
    samples, outputs = np.arange(down + 2 * before) - before, np.arange(up)
    t = (samples[:, None] / down - outputs / up) * edge  # zero crossings from the middle of the sinc
    t = np.clip(t, -_ZEROS, _ZEROS)
    taps = np.sinc(t) * np.cos(t * np.pi / (2 * _ZEROS)) ** 2 * edge / down  # (down + 2 * before, up)
    n = max(1, _FEWEST_OUTPUTS // up)
    kernel = np.zeros((n * down + 2 * before, n * up))
    for i in range(n):
        kernel[i * down : i * down + len(taps), i * up : (i + 1) * up] = taps
    return Resampler(n * down, before, kernel, up, down)


def resample(audio: Floats, old: int, new: int) -> Floats:
    """(B, n) at `old` Hertz -> (B, ceil(n * new / old)) at `new`."""
    n_samples = audio.shape[1]
    if old == new or not n_samples:
        return audio
    change = resampler(old, new)
    padded = np.zeros((len(audio), change.n_padded(n_samples)))
    n_kept = min(n_samples, padded.shape[1] - change.before)
    padded[:, change.before : change.before + n_kept] = audio[:, :n_kept]
    rows = np.lib.stride_tricks.sliding_window_view(padded, change.kernel.shape[0], axis=1)[:, :: change.step]
    product = (np.ascontiguousarray(rows) @ change.kernel).reshape(len(audio), -1)
    return product[:, : change.n_outputs(n_samples)].astype(np.float32)
