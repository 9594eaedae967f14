"""From the windows of one source and their scores to events; the same live and offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.config.schema import LOUD, Config, SoundRule
from streamer.detection.detector import Moment, SoundDetector, SoundScores, Span, State
from streamer.detection.sounds import Sounds
from streamer.detection.timeline import CELL_S, Timeline
from streamer.model.labels import descendants
from streamer.signal.alarms import CADENCES, AlarmWatch, CadenceName
from streamer.signal.faults import FaultWatch, find_fault
from streamer.signal.gate import Gate
from streamer.signal.level import FAST_S, Background, a_weighted, level_dbfs, levels_dbfs
from streamer.types import SILENCE_DBFS, Hearing, Priority, Samples, Scores, SoundEvent, Window

_TOP = 5
_GUESS = 0.01
"""weight of scores that are repeated for a window that was not scored"""
_ORDER: tuple[Priority, ...] = ("critical", "high", "normal", "low")


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of one sound at one time: the values that the rules decide on."""

    raw: float
    """the highest of its labels, or its loudness, before guards and smoothing"""
    smoothed: float
    """what the thresholds are compared with: guarded and smoothed"""
    labels: Mapping[str, float]
    guards: Mapping[str, float]
    """the sounds of `unless` that score higher"""
    held_back_by: str
    """the rule that keeps an occurrence from starting an event; empty where there is none"""
    level_dbfs: float


class Pipeline:
    """Turns scores into events. Has no clock: time comes with the windows.

    For each window, in order of time: `wants` says whether it has to be scored; then `update` with its
    scores, or `skip` where it was not wanted.
    """

    def __init__(self, source_id: str, config: Config, labels: Sequence[str]) -> None:
        """`labels` are the model's. Raises ConfigError when a sound has a label that the model does not."""
        self._rules = {name: config.sound(name) for name in config.sounds}
        self._source_id = source_id
        self._labels = labels
        self._hop_s = config.hop_s
        self._announce_s = config.detection.announce_s
        source = config.sources.get(source_id)  # a file that is not configured has no settings
        self._calibration_db = None if source is None else source.calibration_db
        self._faults = FaultWatch()
        self.is_silent = False
        """nothing but silence arrives: the input is muted or unplugged"""
        self._sounds = Sounds(
            {name: rule.labels for name, rule in self._rules.items() if rule.labels}, labels
        )
        # Child labels first: when a Bark and a Dog start together, only the more specific event is emitted.
        self._detectors = {
            name: SoundDetector(source_id, name, self._rules[name])
            for name in sorted(self._rules, key=lambda name: len(descendants(self._rules[name].labels)))
        }
        self._related = _related(self._rules)
        hold_s = self._announce_s + 2 * self._hop_s
        self._gate = Gate(self._hop_s, hold_s) if config.windows.skip_quiet else None
        self._alarms = AlarmWatch() if any(rule.verify != "none" for rule in self._rules.values()) else None
        self._background = Background()
        self._end = -math.inf
        """end of the latest window"""
        self._memory: _Memory | None = None

    def wants(self, window: Window) -> bool:
        """Whether a window has to be scored; a quiet one need not be. Call it once a window, first."""
        return self._gate is None or self._gate.wants(window)

    def skip(self, window: Window, emitted_at: float) -> list[SoundEvent]:
        """Take a window that was not wanted. Returns events as `update` does."""
        return self._take(window, None, emitted_at)

    def update(self, window: Window, scores: Scores, emitted_at: float) -> list[SoundEvent]:
        """The events that a window leads to, in order. Windows may be missing, but come in order of time.

        Where time breaks off (no audio for a while, a clock that was set back), open events end first.
        """
        if (
            scores.frames is None and self._gate is not None
        ):  # a clip-level score falls when a sound leaves the window
            self._gate.hold_s = window.end - window.start + self._announce_s
        return self._take(window, scores, emitted_at)

    def _take(self, window: Window, scores: Scores | None, emitted_at: float) -> list[SoundEvent]:
        start = window.start
        if window.warm_up:  # before the source's start there is no audio
            start = max(start, window.end - (window.index + 1) * self._hop_s)
        events = []
        if window.end <= self._end:
            events = self.close(self._end, max(emitted_at, self._end))
            self._end = window.end - self._hop_s  # the rest of the window came before, by another time
        elif start > self._end + CELL_S:
            events = self.close(self._end, emitted_at)

        memory = self._memory
        if memory is None:
            if (
                scores is None or scores.frames is None
            ):  # a clip-level score counts for what is new in the window
                start = max(start, window.end - self._hop_s)
            keep_s = window.end - window.start + self._announce_s + 1
            memory = self._memory = _Memory(len(self._sounds), max(start, self._end), keep_s)
        memory.add(window, scores, self._sounds, self._hop_s, self._announce_s, self._background)
        if self._alarms is not None:
            self._alarms.add(window)
        self._end = window.end
        return events + self._detect(memory, window.end, emitted_at)

    def carry_on(self, before: Pipeline) -> None:
        """Take over from a pipeline with other rules: its audio is not analysed again."""
        self._end = before._end
        self._background = before._background
        self._faults = before._faults
        if self._gate is not None and before._gate is not None:
            self._gate = before._gate

    def close(self, at: float, emitted_at: float) -> list[SoundEvent]:
        """End all events: the source has ended, or is not listened to any more. Windows may follow later."""
        memory, self._memory = self._memory, None
        if memory is None:
            return []
        events = self._detect(memory, min(at, self._end), emitted_at, closing=True)
        for detector in self._detectors.values():
            detector.reset()
        return events

    def hearing(self, window: Window, scores: Scores | None) -> Hearing:
        """The level of the newest hop, the window's strongest labels if it was scored, and input faults.

        Call it once a window, after `update` or `skip`.
        """
        n_new = max(1, round(self._hop_s * window.sample_rate))
        strongest = [] if scores is None else np.argsort(-scores.clip, kind="stable")[:_TOP].tolist()
        fault = self._faults.update(find_fault(window, n_new), window.end - window.start, self._hop_s)
        self.is_silent = fault is not None and fault.kind == "silence"
        level_dba = None
        if self._calibration_db is not None and self._memory is not None:
            level_dba = self._memory.weighted_dbfs + self._calibration_db
        return Hearing(
            source_id=self._source_id,
            at=window.end,
            level_dbfs=level_dbfs(window.samples[-n_new:]),
            top={self._labels[i]: float(scores.clip[i]) for i in strongest if scores is not None},
            level_dba=level_dba,
            problem="" if fault is None else fault.text,
        )

    def inspect(self, sound: str, at: float) -> Inspection | None:
        """What is known now of a sound at a time; None where that is forgotten, or not old enough."""
        memory = self._memory
        cell = memory.scores.cell(at) if memory is not None else 0
        if memory is None or not memory.scores.first <= cell < memory.mature:
            return None
        labels, levels = memory.scores.means(), memory.levels.means()
        row = cell - memory.scores.first
        guarded = self._sound_scores(labels, levels[:, 1])
        raw = self._sound_scores(labels, levels[:, 1], guarded=False)
        rule, detector = self._rules[sound], self._detectors[sound]
        scores = self._scores_of(sound, memory, labels, levels, guarded, closing=False)
        moment = self._moment(sound, memory, guarded, self._end, self._end, closing=False)
        pending = detector.pending(cell)
        guards = {guard: float(raw[guard][row]) for guard in rule.unless}
        return Inspection(
            raw=float(raw[sound][row]),
            smoothed=float(detector.smooth(scores)[row]),
            labels=dict(zip(rule.labels, scores.labels[row].tolist(), strict=True)),
            guards={guard: score for guard, score in guards.items() if score > raw[sound][row]},
            held_back_by="" if pending is None else detector.held_back_by(pending, scores, moment),
            level_dbfs=float(levels[row, 0]),
        )

    def _detect(
        self, memory: _Memory, end: float, emitted_at: float, *, closing: bool = False
    ) -> list[SoundEvent]:
        labels = memory.scores.means()
        levels = memory.levels.means()
        by_sound = self._sound_scores(labels, levels[:, 1])
        events = []
        for name, detector in self._detectors.items():
            scores = self._scores_of(name, memory, labels, levels, by_sound, closing=closing)
            moment = self._moment(name, memory, by_sound, end, emitted_at, closing=closing)
            events += detector.update(scores, moment)
        return sorted(events, key=lambda event: _ORDER.index(event.priority))

    def _sound_scores(
        self, labels: Samples, above_db: Samples, *, guarded: bool = True
    ) -> dict[str, Samples]:
        """(n,) of each sound: its highest label, or its loudness; 0 where a sound of `unless` is higher."""
        raw: dict[str, Samples] = dict(zip(self._sounds.parts, self._sounds.highest(labels).T, strict=True))
        for name, rule in self._rules.items():
            if rule.above_background_db is not None:
                raw[name] = np.clip(LOUD * above_db / rule.above_background_db, 0, 1)
        if not guarded:
            return raw
        return {
            name: np.where(
                np.max([raw[guard] for guard in rule.unless], axis=0) > raw[name], np.float32(0), raw[name]
            )
            if rule.unless
            else raw[name]
            for name, rule in self._rules.items()
        }

    def _scores_of(
        self,
        name: str,
        memory: _Memory,
        labels: Samples,
        levels: Samples,
        by_sound: Mapping[str, Samples],
        *,
        closing: bool,
    ) -> SoundScores:
        rule, until = self._rules[name], memory.scores.until
        is_loudness = not rule.labels  # a level is known at once, and never changes
        return SoundScores(
            scores=by_sound[name],
            labels=labels[:, self._sounds.parts[name]] if rule.labels else labels[:, :0],
            levels=levels[:, 0],
            first=memory.scores.first,
            mature=until if closing or is_loudness else memory.mature,
            final=until if is_loudness else memory.final,
            late_by=0 if is_loudness else memory.late_by,
            resolution=1 if is_loudness else memory.resolution,
        )

    def _moment(
        self,
        name: str,
        memory: _Memory,
        by_sound: Mapping[str, Samples],
        end: float,
        emitted_at: float,
        *,
        closing: bool,
    ) -> Moment:
        rule, detector = self._rules[name], self._detectors[name]
        alarm = None
        if rule.verify != "none" and self._alarms is not None:
            # The search is the most expensive part of a hop: only where it can decide something.
            is_due = detector.state is not State.QUIET or by_sound[name].max(initial=0) >= rule.on
            found = self._alarms.find(_cadences(rule)) if is_due else None
            alarm = None if found is None else Span(*(memory.scores.cell(time) for time in found))
        related = (self._detectors[other].event for other in self._related[name])
        return Moment(
            origin=memory.scores.time(0),
            end=end,
            emitted_at=emitted_at,
            closing=closing,
            alarm=alarm,
            related=tuple(event for event in related if event is not None),
        )


def _cadences(rule: SoundRule) -> tuple[CadenceName, ...]:
    return tuple(CADENCES) if rule.cadence == "any" else (rule.cadence,)


def _related(rules: dict[str, SoundRule]) -> dict[str, list[str]]:
    """For each sound the others that share a label with it, or of which one is a kind of the other."""
    kinds = {name: descendants(rule.labels) for name, rule in rules.items()}
    return {
        name: [
            other
            for other in rules
            if other != name and (kinds[name] & set(rules[other].labels) or kinds[other] & set(rule.labels))
        ]
        for name, rule in rules.items()
    }


class _Memory:
    """Scores and levels of the latest seconds, without a break in time."""

    def __init__(self, n_columns: int, origin: float, keep_s: float) -> None:
        self.scores = Timeline(n_columns, origin, keep_s)
        self.levels = Timeline(2, origin, keep_s)
        """dBFS, and decibels of the A-weighted level above the background"""
        self._n_columns = n_columns
        self._end = origin
        self.mature = self.final = self.late_by = 0
        self.resolution = 1
        self.weighted_dbfs = SILENCE_DBFS
        """A-weighted level of what was new in the latest window"""

    def add(
        self,
        window: Window,
        scores: Scores | None,
        sounds: Sounds,
        hop_s: float,
        announce_s: float,
        background: Background,
    ) -> None:
        """Take a window, with its scores if it was scored."""
        since, self._end = self._end, window.end
        levels, self.weighted_dbfs = _levels(window, since, background)
        self.levels.add(levels, since, window.end, (window.end - since) / len(levels))
        if scores is None:
            # Not scored: the last scores again, with a tiny weight. Frame-level scores overwrite them later;
            # until then `mature` does not advance.
            is_known = self.scores.until > self.scores.first
            last = self.scores.means()[-1:] if is_known else np.zeros((1, self._n_columns), np.float32)
            self.scores.add(last, since, window.end, window.end - since, certainty=_GUESS)
            if self.late_by:
                self.final = self.mature = self.scores.until
        elif scores.frames is not None:
            self.scores.add(sounds.pick(scores.frames), window.start, window.end, scores.frame_s)
            self.final = self.scores.cell(window.start)
            self.mature = max(self.mature, self.scores.cell(window.end - announce_s))
        else:
            # A clip-level score rises when the window's end passes an onset, and falls when its start passes
            # the offset: it counts for the newest hop, and falls late by the rest of the window.
            self.scores.add(sounds.pick(scores.clip[None]), since, window.end, window.end - since)
            self.final = self.mature = self.scores.until
            self.resolution = round(hop_s / CELL_S)
            self.late_by = max(0, round((window.end - window.start) / CELL_S) - self.resolution)


def _levels(window: Window, since: float, background: Background) -> tuple[npt.NDArray[np.float32], float]:
    """Levels of the audio that is new in this window, which also go into `background`.

    (n, 2) [dBFS, dB above background], one row per 125 ms; and the A-weighted level of all of it, dBFS.
    """
    n = max(1, round((window.end - since) / FAST_S))
    new = window.samples[-max(n, round((window.end - since) * window.sample_rate)) :]
    new_weighted = a_weighted(new, window.sample_rate)
    weighted = levels_dbfs(new_weighted, n)
    background_db = background.level_db
    background.add(weighted)
    above_db = np.zeros(n) if background_db is None else weighted - background_db
    levels = np.stack((levels_dbfs(new, n), above_db), axis=1).astype(np.float32)
    return levels, level_dbfs(new_weighted)
