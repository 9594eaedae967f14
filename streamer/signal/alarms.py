"""The cadence of smoke and carbon monoxide alarms, found in the signal itself.

ISO 8201 and NFPA 72: smoke alarms sound temporal three (T3), three beeps of half a second with half a second
between them, then a pause of 1.5 s. NFPA 720 and UL 2034: carbon monoxide alarms sound temporal four (T4),
four beeps of a tenth of a second, then a pause of 5 s. Each length may be off by a tenth. The tone is that of
a piezo disc, about 3.1 kHz, or a square wave of 520 Hz for people who do not hear high tones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
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
_SILENCE_DB = -120.0
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

_LONGEST_S = max(cadence.longest_s for cadence in CADENCES.values())
_N_BINS = round(_TONES_HZ[-1][1] * _FRAME_S) + _ASIDE_BINS + 1
"""of the spectrum: from 0 Hz to as far as the tones of alarms need"""

Places: TypeAlias = npt.NDArray[np.intp]
Frames: TypeAlias = npt.NDArray[np.float32]
"""(n_bins, n_frames) in dB"""
Sums: TypeAlias = npt.NDArray[np.float64]
"""(n_bins, n_frames + 1): the sum of all frames before each; a mean over time is then one difference"""


class AlarmWatch:
    """Searches groups of beeps in the latest seconds of one source; every moment once."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._end = -math.inf
        self._loud_at = -math.inf
        self._restart()

    def _restart(self) -> None:
        self._rest: Samples = np.zeros(0, np.float32)
        """the newest samples: those of frames that are not complete"""
        self._sums: Sums = np.zeros((_N_BINS, 1))
        self._until: dict[CadenceName, float] = {}
        """end of the latest group of each rhythm"""

    def update(self, window: Window, *, is_loud: bool = True) -> list[tuple[CadenceName, float, float]]:
        """The groups of beeps that a window completes, each with its begin and end. Windows come in order.

        `is_loud` says whether the newest hop is louder than the background: nothing is analysed where none
        was for as long as a group lasts.
        """
        new_s = window.end - self._end
        self._end = window.end
        if is_loud:
            self._loud_at = window.end
        if window.end - self._loud_at > _LONGEST_S:
            self._rate = 0.0
            return []
        coarse = max(1, int(window.sample_rate / _RATE_HZ))
        rate = window.sample_rate / coarse
        if rate != self._rate or not 0 < new_s <= window.end - window.start:
            self._restart()
            self._rate = rate
            new_s = window.end - window.start
        n_new = round(new_s * rate)
        new = window.samples[len(window.samples) - n_new * coarse :].reshape(-1, coarse).mean(axis=1)
        n_before = self._sums.shape[1] - 1
        n_gone = self._add(new)
        begin = window.end - self._rest.size / rate - (self._sums.shape[1] - 1) * round(_STEP_S * rate) / rate
        latest = (
            (name, _latest_group_at_any_speed(self._sums, cadence, n_before - n_gone))
            for name, cadence in CADENCES.items()
        )
        found = [(name, begin + span[0], begin + span[1]) for name, span in latest if span is not None]
        # The next hop may find a group again, at a slower speed.
        new_groups = [one for one in found if one[1] > self._until.get(one[0], -math.inf)]
        self._until |= {name: end for name, _, end in new_groups}
        return new_groups

    def _add(self, samples: Samples) -> int:
        """Append frames, and forget those of which no group can be a part any more; returns how many."""
        samples = np.concatenate((self._rest, samples))
        levels = _levels(samples, self._rate)
        self._rest = samples[levels.shape[1] * round(_STEP_S * self._rate) :]
        n_kept = math.ceil((_LONGEST_S + _FRAME_S) / _STEP_S)
        kept = self._sums[:, -n_kept:]
        n_gone = int(self._sums.shape[1] - kept.shape[1])
        self._sums = np.concatenate(
            (kept, kept[:, -1:] + np.cumsum(levels, axis=1, dtype=np.float64)), axis=1
        )
        return n_gone


def find(samples: Samples, rate: float, cadence: Cadence) -> tuple[float, float] | None:
    """Where the latest group of beeps lies in (n,) samples: its begin and end in seconds, or None."""
    sums = np.pad(np.cumsum(_levels(samples, rate), axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    return _latest_group_at_any_speed(sums, cadence, 0)


def _levels(samples: Samples, rate: float) -> Frames:
    """(n_bins, n_frames) in dB of all whole frames."""
    width, step = round(_FRAME_S * rate), round(_STEP_S * rate)
    if step == 0 or len(samples) < width:
        return np.zeros((_N_BINS, 0), np.float32)
    power = power_spectra(samples, width, step, _taper(width))
    levels = np.full((_N_BINS, len(power)), _SILENCE_DB, np.float32)
    n_bins = min(_N_BINS, power.shape[1])
    levels[:n_bins] = 10 * np.log10(power[:, :n_bins].T + 1e-12)
    return levels


@lru_cache(maxsize=8)
def _taper(width: int) -> npt.NDArray[np.float32]:
    return np.hanning(width).astype(np.float32)


def _latest_group_at_any_speed(sums: Sums, cadence: Cadence, n_searched: int) -> tuple[float, float] | None:
    """Where the latest group of beeps that ends after the first `n_searched` frames lies, in seconds."""
    found = [
        span
        for speed in _SPEEDS
        if (span := _latest_group(sums, cadence, float(speed), n_searched)) is not None
    ]
    return max(found, key=lambda span: span[1], default=None)


def _latest_group(sums: Sums, cadence: Cadence, speed: float, n_searched: int) -> tuple[float, float] | None:
    """Where the latest group of beeps lies in seconds, at one speed."""
    beep = cadence.beep_s * speed / _STEP_S  # frames, not whole ones
    quiet = round(cadence.quiet_s * speed / _STEP_S)
    length = round((2 * cadence.n_beeps - 1) * beep)
    whole = length + 2 * quiet
    starts = range(max(0, n_searched - whole), sums.shape[1] - 1 - whole)
    if not starts:
        return None
    on = max(1, round(0.8 * beep / _PARTS))
    off = max(1, round(0.5 * beep))  # its later half: before it the room may still ring
    margin = round(0.3 * beep)  # for that, too, and for lengths that are not exact
    parts = [
        quiet + round((2 * k + 0.1) * beep) + i * on for k in range(cadence.n_beeps) for i in range(_PARTS)
    ]
    gaps = [quiet + round((2 * k + 1.45) * beep) for k in range(cadence.n_beeps - 1)]
    near = [quiet - margin - off - 1, quiet + length + margin]

    mean = partial(_mean, sums)
    candidates: list[tuple[int, int, float]] = []
    for low, high in _TONES_HZ:
        first, until = round(low * _FRAME_S), round(high * _FRAME_S) + 1
        bins, begins, level = _tones(sums, first, until, starts, (parts[::_PARTS], _PARTS * on), (gaps, off))
        for own_parts, own_gaps in ((parts[:1], gaps), (parts, [*gaps, *near])):
            if not bins.size:
                break
            faintest = np.min([mean(bins, begins + at, on) for at in own_parts], axis=0)
            loudest = np.max([mean(bins, begins + at, off) for at in own_gaps], axis=0)
            passes = faintest - loudest >= _CONTRAST_DB
            bins, begins, level = bins[passes], begins[passes], level[passes]
        candidates += zip(begins.tolist(), bins.tolist(), level.tolist(), strict=True)
    for start, pitch, loudness in sorted(candidates, key=lambda place: (-place[0], -place[2])):
        faintest = min(float(mean(pitch, start + at, on)) for at in parts)
        begin, end = start + quiet, start + quiet + length
        around = [np.arange(start, begin - margin - off), np.arange(end + margin, end + quiet - off)]
        if mean(pitch, np.concatenate(around), off).max() > faintest - _CONTRAST_DB:
            continue
        # Of a horn or a melody this is an overtone: something lower and louder sounds along.
        lower = np.arange(_LOWEST_BIN, pitch - _LOBE_BINS)
        theirs = np.array([mean(lower, start + at, on) for at in parts])
        still = np.max([mean(lower, start + at, off) for at in gaps], axis=0)
        if not ((theirs.mean(axis=0) > loudness) & (theirs.min(axis=0) - still >= _CONTRAST_DB)).any():
            return begin * _STEP_S, end * _STEP_S
    return None


def _tones(
    sums: Sums,
    first: int,
    until: int,
    starts: range,
    beeps: tuple[list[int], int],
    gaps: tuple[list[int], int],
) -> tuple[Places, Places, npt.NDArray[np.float64]]:
    """The bins and starts at which the beeps as a whole are above the gaps and above the pitches beside them.

    Returns the mean level of the beeps, too. `beeps` and `gaps` are the places after a start, and the number
    of frames that are averaged there. This is so of few places; only of those each beep and gap is looked at.
    """
    rows = slice(first - _ASIDE_BINS, until + _ASIDE_BINS)
    level = np.zeros((rows.stop - rows.start, len(starts)))
    places, n = beeps
    for at in places:
        begin, end = starts.start + at, starts.stop + at
        level += sums[rows, begin + n : end + n]
        level -= sums[rows, begin:end]
    level /= n * len(places)
    aside = np.maximum(level[: -2 * _ASIDE_BINS], level[2 * _ASIDE_BINS :])
    level = level[_ASIDE_BINS:-_ASIDE_BINS]
    bins, begins = np.nonzero(level - aside >= _CONTRAST_DB)
    if not bins.size:  # as a rule
        return bins, begins, np.zeros(0)
    level = level[bins, begins]
    bins, begins = bins + first, begins + starts.start
    still = np.zeros(len(bins))
    places, n = gaps
    for at in places:
        still += sums[bins, begins + at + n]
        still -= sums[bins, begins + at]
    passes = level - still / (n * len(places)) >= _CONTRAST_DB
    return bins[passes], begins[passes], level[passes]


def _mean(sums: Sums, bins: Places | int, begins: Places | int, n: int) -> npt.NDArray[np.float64]:
    """The mean level of `n` frames from each begin on, in each bin."""
    return np.asarray((sums[bins, begins + n] - sums[bins, begins]) / n)
