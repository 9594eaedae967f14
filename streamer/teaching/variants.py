"""Windows in which a clip sounds as it may another time: at other levels, in noise, in rooms, with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.data.synthesis import ALARMS, coloured_noise
from streamer.teaching.clips import RATE, Clip
from streamer.types import Samples, Window

Rng = np.random.Generator

KINDS = ("plain", "noise", "noise", "room", "mixture")
"""the windows of a clip: nearly as it is, in noise, in a room, with another sound"""
_LEVELS_DBFS = (-45.0, -20.0)
_FADE_S = 0.01
_OTHERS = (1, 3)
"""other sounds in a window of the bank"""


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    window: Window
    active: npt.NDArray[np.float32]
    """(k, 2) seconds from the window's start: from when to when the clip sounds"""


def variants(clip: Clip, window_s: float, rng: Rng, kinds: Sequence[str] = KINDS) -> list[Variant]:
    """A window of each kind."""
    found = []
    for kind in kinds:
        samples, active = excerpt(clip, window_s, rng)
        rms = float(np.sqrt(np.square(samples).mean()) + 1e-9)
        if kind == "room":
            samples = _in_room(samples, rng)
        n = round(window_s * RATE)
        at = int(rng.integers(max(1, n - len(samples) + 1)))
        mixed = np.zeros(n, np.float32)
        part = samples[: n - at]
        mixed[at : at + len(part)] = part / rms
        if kind == "mixture":
            other = synthesised(rng, float(rng.uniform(1, min(6, window_s))))
            mixed += placed(other, n, rng) * gain(-rng.uniform(3, 14))
        low_db, high_db = (25, 40) if kind == "plain" else (6, 25)
        mixed += background(rng, n) * gain(-rng.uniform(low_db, high_db))
        window = finished(mixed, window_s, rng)
        found.append(Variant(window, active + np.float32(at / RATE)))
    return found


def bank_windows(rng: Rng, window_s: float, n_windows: int) -> list[Window]:
    """Windows of what is not meant: sounds that the program makes, and noise alone."""
    windows = []
    n = round(window_s * RATE)
    for i in range(n_windows):
        mixed = background(rng, n) * gain(-rng.uniform(6, 30))
        if i % 8:  # else noise alone
            for _ in range(int(rng.integers(_OTHERS[0], _OTHERS[1] + 1))):
                other = synthesised(rng, float(rng.uniform(0.5, min(5, window_s))))
                mixed = mixed + placed(other, n, rng) * gain(-rng.uniform(0, 12))
        windows.append(finished(mixed, window_s, rng))
    return windows


def clip_windows(clip: Clip, window_s: float, rng: Rng) -> list[Window]:
    """Two windows of a clip that is not meant: nearly as it is, and in noise."""
    return [one.window for one in variants(clip, window_s, rng, KINDS[:2])]


def synthesised(rng: Rng, seconds: float) -> Samples:
    """(n,), RMS 1."""
    samples = ALARMS[int(rng.integers(len(ALARMS)))](rng, RATE, seconds).samples
    return np.asarray(samples / (np.sqrt(np.square(samples).mean()) + 1e-9), np.float32)


def excerpt(clip: Clip, window_s: float, rng: Rng) -> tuple[Samples, npt.NDArray[np.float32]]:
    """A clip's sound from begin to end, or as much of it as a window holds, and when it sounds in there."""
    begin, end = float(clip.active[0, 0]), float(clip.active[-1, 1])
    if end - begin > window_s:
        begin, _ = clip.active[int(rng.integers(len(clip.active)))]
        begin = min(float(begin), end - window_s)
        end = begin + window_s
    samples = clip.samples[round(begin * RATE) : round(end * RATE)].copy()
    n_fade = min(len(samples) // 4, round(_FADE_S * RATE))
    ramp = np.linspace(0, 1, n_fade, dtype=np.float32)
    samples[:n_fade] *= ramp
    samples[len(samples) - n_fade :] *= ramp[::-1]
    active = np.clip(clip.active - np.float32(begin), 0, np.float32(window_s))
    return samples, active[active[:, 1] > active[:, 0]]


def _in_room(samples: Samples, rng: Rng) -> Samples:
    """With reverberation that decays by 60 dB in 0.2 to 0.8 s; as long as before."""
    decay_s = float(rng.uniform(0.2, 0.8))
    t = np.arange(int(decay_s * RATE)) / RATE
    tail = rng.standard_normal(len(t)) * np.exp(-6.9 * t / decay_s)
    tail *= rng.uniform(0.2, 0.7) / (np.sqrt(np.square(tail).sum()) + 1e-9)
    tail[0] = 1.0
    n_fft = 1 << (len(samples) + len(tail)).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, n_fft) * np.fft.rfft(tail, n_fft), n_fft)[: len(samples)]
    return np.asarray(wet, np.float32)


def placed(samples: Samples, n: int, rng: Rng) -> Samples:
    """(n,), in which the samples begin somewhere."""
    whole = np.zeros(n, np.float32)
    at = int(rng.integers(max(1, n - len(samples) + 1)))
    part = samples[: n - at]
    whole[at : at + len(part)] = part
    return whole


def background(rng: Rng, n: int) -> Samples:
    """(n,) noise from white to brown, RMS 1."""
    noise = coloured_noise(rng, RATE, (n + 2) / RATE, float(rng.uniform(0, 2)))
    return np.pad(noise, (0, max(0, n - len(noise))))[:n]


def gain(db: float) -> np.float32:
    """What samples are multiplied with."""
    return np.float32(10 ** (db / 20))


def finished(samples: Samples, window_s: float, rng: Rng) -> Window:
    """The window of (n,) samples at RATE, at some level."""
    rms = float(np.sqrt(np.square(samples).mean()) + 1e-9)
    level = samples * (gain(float(rng.uniform(*_LEVELS_DBFS))) / np.float32(rms))
    return Window("teach", 0, np.clip(level, -1, 1).astype(np.float32), RATE, 0.0, window_s)
