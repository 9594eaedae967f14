"""The cadence of smoke and carbon monoxide alarms, found in the signal itself.

ISO 8201 and NFPA 72: smoke alarms sound temporal three (T3), three beeps of half a second with half a second
between them, then a pause of 1.5 s. NFPA 720 and UL 2034: carbon monoxide alarms sound temporal four (T4),
four beeps of a tenth of a second, then a pause of 5 s. Each length may be off by a tenth. The tone is that of
a piezo disc, about 3.1 kHz, or a square wave of 520 Hz for people who do not hear high tones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from streamer.signal.spectrum import power_spectra
from streamer.types import Samples, Window

CadenceName: TypeAlias = Literal["t3", "t4"]


_TONES_HZ = ((480.0, 560.0), (2500.0, 4000.0))
_FRAME_S, _STEP_S = 0.032, 0.01
_SPEEDS = np.arange(0.90, 1.101, 0.04)
_CONTRAST_DB = 6.0
"""by which the faintest beep is above the loudest gap, at the pitch of the beeps"""
_PARTS = 3
"""of a beep, each of them loud: a siren that sweeps through a pitch is not at it for long"""
_LOWEST_BIN = 3
"""About 100 Hz; below there is hum."""
_LOBE_BINS = 2
"""as wide as the window makes a tone, to one side"""
_ASIDE_BINS = 8
"""A quarter of a kilohertz off, where a tone has left nothing and noise is as loud as anywhere."""
_RATE_HZ = 16000
"""to which faster inputs are thinned out; the tones end at a quarter of it"""


@dataclass(frozen=True, slots=True)
class Cadence:
    """Beeps of one pitch with gaps of their own length between them, and quiet around them."""

    n_beeps: int
    beep_s: float
    quiet_s: float
    """before and after; shorter than the pause of the standard, longer than the gaps"""

    @property
    def longest_s(self) -> float:
        """A group with the quiet around it, at the slowest speed."""
        return float(_SPEEDS[-1]) * ((2 * self.n_beeps - 1) * self.beep_s + 2 * self.quiet_s)


CADENCES: Mapping[CadenceName, Cadence] = {"t3": Cadence(3, 0.5, 1.1), "t4": Cadence(4, 0.1, 3.5)}

KEEP_S = 10.0
"""holds one group of either cadence with the quiet around it"""


class AlarmWatch:
    """The latest seconds of one source, in which the cadence of an alarm is searched."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._samples: Samples = np.zeros(0, np.float32)
        self._rate = 0.0
        self._end = -math.inf
        self._found: dict[CadenceName, tuple[float, float]] = {}
        self._searched: dict[CadenceName, float] = {}

    def add(self, window: Window) -> None:
        """Take the new samples of a window. Windows come in order of time; after a break it begins anew."""
        coarse = max(1, int(window.sample_rate / _RATE_HZ))
        rate = window.sample_rate / coarse
        new_s = window.end - self._end
        if rate != self._rate or not 0 < new_s <= window.end - window.start:
            self._reset()
            new_s = window.end - window.start
        n_new = round(new_s * rate)
        new = window.samples[len(window.samples) - n_new * coarse :]
        new = new.reshape(-1, coarse).mean(axis=1)
        self._samples = np.concatenate((self._samples, new))[-round(KEEP_S * rate) :]
        self._rate, self._end = rate, window.end

    def find(self, names: Sequence[CadenceName]) -> tuple[float, float] | None:
        """When the latest group of beeps began and ended. Samples are searched only once."""
        for name in names:
            cadence = CADENCES[name]
            since_s = self._end - self._searched.get(name, -math.inf)
            if since_s > 0 and self._rate:
                needed_s = min(KEEP_S, since_s + cadence.longest_s)
                recent = self._samples[-round(needed_s * self._rate) :]
                if (span := find(recent, self._rate, cadence)) is not None:
                    begin = self._end - len(recent) / self._rate
                    self._found[name] = begin + span[0], begin + span[1]
                self._searched[name] = self._end
        found = [self._found[name] for name in names if name in self._found]
        return max(found, key=lambda span: span[1], default=None)


def find(samples: Samples, rate: float, cadence: Cadence) -> tuple[float, float] | None:
    """Where the latest group of beeps lies in (n,) samples: its begin and end in seconds, or None."""
    levels = _levels(samples, rate)
    found = [span for speed in _SPEEDS if (span := _latest_group(levels, cadence, float(speed))) is not None]
    return max(found, key=lambda span: span[1], default=None)


def _levels(samples: Samples, rate: float) -> npt.NDArray[np.float64]:
    """(n_bins, n_frames) in dB, from 0 Hz to as far as the tones of alarms need."""
    width, step = round(_FRAME_S * rate), round(_STEP_S * rate)
    if step == 0 or len(samples) < width:
        return np.zeros((0, 0))
    power = power_spectra(samples, width, step, np.hanning(width).astype(np.float32))
    n_bins = round(_TONES_HZ[-1][1] * _FRAME_S) + _ASIDE_BINS + 1
    return np.asarray(10 * np.log10(power[:, :n_bins].T + 1e-12))


def _latest_group(
    levels: npt.NDArray[np.float64], cadence: Cadence, speed: float
) -> tuple[float, float] | None:
    """Where the latest group of beeps lies, at one speed."""
    beep = cadence.beep_s * speed / _STEP_S  # frames, not whole ones
    quiet = round(cadence.quiet_s * speed / _STEP_S)
    length = round((2 * cadence.n_beeps - 1) * beep)
    n_starts = levels.shape[-1] - length - 2 * quiet
    if n_starts <= 0:
        return None
    on = max(1, round(0.8 * beep / _PARTS))
    off = max(1, round(0.5 * beep))  # its later half: before it the room may still ring
    margin = round(0.3 * beep)  # for that, too, and for lengths that are not exact
    sums = np.pad(np.cumsum(levels, axis=1), ((0, 0), (1, 0)))
    ons, offs = ((sums[:, n:] - sums[:, :-n]) / n for n in (on, off))
    parts = quiet + np.array(
        [round((2 * k + 0.1) * beep) + i * on for k in range(cadence.n_beeps) for i in range(_PARTS)]
    )
    gaps = quiet + np.array([round((2 * k + 1.45) * beep) for k in range(cadence.n_beeps - 1)])

    def beeps_of(bins: slice, starts: slice) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The mean level of the beeps, and by how much their faintest part is above the loudest gap."""
        loud = np.array([ons[bins, starts.start + at : starts.stop + at] for at in parts])
        still = np.array([offs[bins, starts.start + at : starts.stop + at] for at in gaps])
        return loud.mean(axis=0), loud.min(axis=0) - still.max(axis=0)

    candidates = []
    for low, high in _TONES_HZ:
        first, last = round(low * _FRAME_S), round(high * _FRAME_S) + 1
        level, contrast = beeps_of(slice(first - _ASIDE_BINS, last + _ASIDE_BINS), slice(0, n_starts))
        aside = np.maximum(level[: -2 * _ASIDE_BINS], level[2 * _ASIDE_BINS :])
        level, contrast = level[_ASIDE_BINS:-_ASIDE_BINS], contrast[_ASIDE_BINS:-_ASIDE_BINS]
        places = np.argwhere((contrast >= _CONTRAST_DB) & (level - aside >= _CONTRAST_DB))
        candidates += [(start, first + row, level[row, start]) for row, start in places.tolist()]
    for start, pitch, level in sorted(candidates, key=lambda place: (-place[0], -place[2])):
        faintest = min(ons[pitch, start + at] for at in parts)
        begin, end = start + quiet, start + quiet + length
        still = (offs[pitch, start : begin - margin - off], offs[pitch, end + margin : end + quiet - off])
        if max(part.max() for part in still) > faintest - _CONTRAST_DB:
            continue
        # Of a horn or a melody this is an overtone: something lower and louder sounds along.
        lower, their_contrast = beeps_of(slice(_LOWEST_BIN, pitch - _LOBE_BINS), slice(start, start + 1))
        if not ((lower > level) & (their_contrast >= _CONTRAST_DB)).any():
            return begin * _STEP_S, end * _STEP_S
    return None
