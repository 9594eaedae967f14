"""What the samples of one source show without a model: levels, input faults, the silence gate, beeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.signal.alarms import AlarmWatch
from streamer.signal.faults import FaultWatch, find_fault
from streamer.signal.gate import Gate
from streamer.signal.level import FAST_S, Background, a_weighted, level_dbfs, levels_dbfs
from streamer.types import Beeps, Samples, Sensed, Window


@dataclass(frozen=True, slots=True)
class SensorSettings:
    """What depends on the configuration in what is sensed."""

    hop_s: float
    hold_s: float
    """how long the gate goes on after the newest hop was louder than the background"""
    skip_quiet: bool = True
    """false: every window has to be scored"""
    calibration_db: float | None = None
    """added to the A-weighted level; None where the source is not calibrated"""


class Sensor:
    """Looks at the samples of one source's windows, once. Has no clock: time comes with the windows."""

    def __init__(self, settings: SensorSettings) -> None:
        self._settings = settings
        self._gate = Gate(settings.hop_s, settings.hold_s)
        self._faults = FaultWatch()
        self._background = Background()
        self._alarms = AlarmWatch()
        self._end = -math.inf
        """end of the latest window"""

    def hold(self, hold_s: float) -> None:
        """Let the gate go on for another time after a loud hop."""
        self._gate.hold_s = hold_s

    def sense(self, window: Window) -> Sensed:
        """Call it once a window, in order of time. Windows may be missing."""
        hop_s = self._settings.hop_s
        audio_start = window.start
        if window.warm_up:  # before the source's start there is no audio
            audio_start = max(window.start, window.end - (window.index + 1) * hop_s)
        since = max(audio_start, self._end)
        if window.end <= self._end:  # the clock was set back: the rest of the window came before
            since = window.end - hop_s
        self._end = window.end

        is_wanted = self._gate.wants(window)
        beeps = self._alarms.update(window, is_loud=self._gate.loud_at == window.end)
        n_new = max(1, round(hop_s * window.sample_rate))
        new = window.samples[-n_new:]
        fault = self._faults.update(find_fault(window, n_new), window.end - window.start, hop_s)
        levels, weighted_dbfs = self._levels(window, since)
        calibration_db = self._settings.calibration_db
        return Sensed(
            index=window.index,
            start=window.start,
            end=window.end,
            audio_start=audio_start,
            since=since,
            levels=levels,
            is_wanted=is_wanted or not self._settings.skip_quiet,
            beeps=tuple(Beeps(*found) for found in beeps),
            level_dbfs=level_dbfs(_without_offset(new)),
            level_dba=None if calibration_db is None else weighted_dbfs + calibration_db,
            problem="" if fault is None else fault.text,
            is_silent=fault is not None and fault.kind == "silence",
        )

    def _levels(self, window: Window, since: float) -> tuple[npt.NDArray[np.float32], float]:
        """As `Sensed.levels`, which go into the background, and the A-weighted level of all that, in dBFS."""
        n = max(1, round((window.end - since) / FAST_S))
        new = window.samples[-max(n, round((window.end - since) * window.sample_rate)) :]
        new_weighted = a_weighted(new, window.sample_rate)
        weighted = levels_dbfs(new_weighted, n)
        background_db = self._background.level_db
        self._background.add(weighted)
        above_db = np.zeros(n) if background_db is None else weighted - background_db
        levels = np.stack((levels_dbfs(_without_offset(new), n), above_db), axis=1).astype(np.float32)
        return levels, level_dbfs(new_weighted)


def _without_offset(samples: Samples) -> Samples:
    """A constant offset of the input is not loudness."""
    return samples - samples.mean() if samples.size else samples
