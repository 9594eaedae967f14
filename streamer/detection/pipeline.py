"""One source's way from windows and their scores to events; the same live and offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.config.schema import LOUD, Config, SoundRule
from streamer.detection.detector import SoundDetector, View
from streamer.detection.ontology import below
from streamer.detection.sounds import Sounds
from streamer.detection.timeline import CELL_S, Timeline
from streamer.signal.alarms import CADENCES, AlarmWatch, CadenceName
from streamer.signal.faults import FaultWatch, find_fault
from streamer.signal.gate import Gate
from streamer.signal.level import FAST_S, Background, a_weighted, level_dbfs, levels_dbfs
from streamer.types import Hearing, Priority, Samples, Scores, SoundEvent, Window

_TOP = 5
_GUESS = 0.01
"""how much a moment counts that was not scored"""
_ORDER: tuple[Priority, ...] = ("critical", "high", "normal", "low")


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known of one sound at one moment."""

    known_at: float
    """end of the latest window"""
    raw: float
    """the highest of its labels, or its loudness, before all else"""
    smoothed: float
    """what the thresholds are held against: guarded and smoothed"""
    labels: Mapping[str, float]
    guards: Mapping[str, float]
    """those that are stronger"""
    doubt: str
    """why an event is not told yet, although the score is there"""
    level_dbfs: float


class Pipeline:
    """Turns scores into events. Knows no clock: time comes with the windows.

    Of each window, in time's order: `wants` says whether it has to be scored; then `update` where it was, or
    `skip` where it was not wanted.
    """

    def __init__(self, source_id: str, config: Config, labels: Sequence[str]) -> None:
        """`labels` are the model's. Raises ConfigError when a sound has a label that the model does not."""
        self._rules = {name: config.sound(name) for name in config.sounds}
        self._source_id = source_id
        self._labels = labels
        self._hop_s = config.hop_s
        self._announce_s = config.detection.announce_s
        source = config.sources.get(source_id)  # a file has no settings of its own
        self._calibration_db = None if source is None else source.calibration_db
        self._faults = FaultWatch()
        self.is_silent = False
        """nothing but silence arrives: the input is muted or unplugged"""
        self._sounds = Sounds(
            {name: rule.labels for name, rule in self._rules.items() if rule.labels}, labels
        )
        # Kinds come before what they are kinds of: of two that are told at once, it is the more exact one.
        self._detectors = {
            name: SoundDetector(source_id, name, self._rules[name])
            for name in sorted(self._rules, key=lambda name: len(below(self._rules[name].labels)))
        }
        self._kin = _kin(self._rules)
        hold_s = self._announce_s + 2 * self._hop_s
        self._gate = Gate(self._hop_s, hold_s) if config.windows.skip_quiet else None
        self._alarms = AlarmWatch() if any(rule.verify != "none" for rule in self._rules.values()) else None
        self._background = Background()
        self._end = -math.inf
        """when what was heard ends"""
        self._memory: _Memory | None = None

    def wants(self, window: Window) -> bool:
        """Whether a window has to be scored: a quiet one need not be. Ask once a window, before all else."""
        return self._gate is None or self._gate.wants(window)

    def skip(self, window: Window, emitted_at: float) -> list[SoundEvent]:
        """Take note of a window that was not wanted: nothing new is in it. Answers like `update`."""
        return self._take(window, None, emitted_at)

    def update(self, window: Window, scores: Scores, emitted_at: float) -> list[SoundEvent]:
        """What there is to say after a window, in order. Windows may be missing, but come in time's order.

        Where time breaks off (nothing was heard for a while, the clock was set back), open events end first.
        """
        if scores.frames is None and self._gate is not None:  # a score falls as a sound leaves the window
            self._gate.hold_s = window.end - window.start + self._announce_s
        return self._take(window, scores, emitted_at)

    def _take(self, window: Window, scores: Scores | None, emitted_at: float) -> list[SoundEvent]:
        start = window.start
        if window.warm_up:  # what lies before the source's start was not heard
            start = max(start, window.end - (window.index + 1) * self._hop_s)
        events = []
        if window.end <= self._end:
            events = self.close(self._end, max(emitted_at, self._end))
            self._end = window.end - self._hop_s  # the rest of the window was heard before, by another time
        elif start > self._end + CELL_S:
            events = self.close(self._end, emitted_at)

        memory = self._memory
        if memory is None:
            if scores is None or scores.frames is None:  # such a score tells only what is new in the window
                start = max(start, window.end - self._hop_s)
            keep_s = window.end - window.start + self._announce_s + 1
            memory = self._memory = _Memory(len(self._sounds), max(start, self._end), keep_s)
        memory.add(window, scores, self._sounds, self._hop_s, self._announce_s, self._background)
        if self._alarms is not None:
            self._alarms.add(window)
        self._end = window.end
        return events + self._detect(memory, window.end, emitted_at)

    def carry_on(self, before: Pipeline) -> None:
        """Take over from a pipeline with other rules: what that has heard is not heard again, but known."""
        self._end = before._end
        self._background = before._background
        self._faults = before._faults
        if self._gate is not None and before._gate is not None:
            self._gate = before._gate

    def close(self, at: float, emitted_at: float) -> list[SoundEvent]:
        """End everything: the source has ended, or nobody listens any more. Windows may follow later."""
        memory, self._memory = self._memory, None
        if memory is None:
            return []
        events = self._detect(memory, min(at, self._end), emitted_at, closing=True)
        for detector in self._detectors.values():
            detector.reset()
        return events

    def hearing(self, window: Window, scores: Scores | None) -> Hearing:
        """The level of the newest hop, the window's strongest labels if it was scored, and input faults."""
        n_new = max(1, round(self._hop_s * window.sample_rate))
        new = window.samples[-n_new:]
        strongest = [] if scores is None else np.argsort(-scores.clip, kind="stable")[:_TOP].tolist()
        fault = self._faults.update(find_fault(window, n_new), window.end - window.start, self._hop_s)
        self.is_silent = fault is not None and fault.kind == "silence"
        level_dba = None
        if self._calibration_db is not None:
            level_dba = level_dbfs(a_weighted(new, window.sample_rate)) + self._calibration_db
        return Hearing(
            source_id=self._source_id,
            at=window.end,
            level_dbfs=level_dbfs(new),
            top={self._labels[i]: float(scores.clip[i]) for i in strongest if scores is not None},
            level_dba=level_dba,
            problem="" if fault is None else fault.text,
        )

    def look(self, sound: str, at: float) -> Moment | None:
        """What is known now of a moment; None where it is forgotten, or not old enough to count."""
        memory = self._memory
        cell = memory.scores.cell(at) if memory is not None else 0
        if memory is None or not memory.scores.first <= cell < memory.settled:
            return None
        labels, levels = memory.scores.means(), memory.levels.means()
        row = cell - memory.scores.first
        own = self._own_scores(labels, levels[:, 1])
        view = self._view(sound, memory, labels, levels, own, self._end, self._end)
        rule, detector = self._rules[sound], self._detectors[sound]
        before = self._own_scores(labels, levels[:, 1], guarded=False)
        guards = {guard: float(before[guard][row]) for guard in rule.unless}
        return Moment(
            known_at=self._end,
            raw=float(before[sound][row]),
            smoothed=float(detector.smooth(view)[row]),
            labels=dict(zip(rule.labels, view.labels[row].tolist(), strict=True)),
            guards={guard: score for guard, score in guards.items() if score > before[sound][row]},
            doubt=detector.doubts_at(cell, view),
            level_dbfs=float(levels[row, 0]),
        )

    def _detect(
        self, memory: _Memory, end: float, emitted_at: float, *, closing: bool = False
    ) -> list[SoundEvent]:
        labels = memory.scores.means()
        levels = memory.levels.means()
        own = self._own_scores(labels, levels[:, 1])
        events = []
        for name, detector in self._detectors.items():
            view = self._view(name, memory, labels, levels, own, end, emitted_at, closing=closing)
            events += detector.update(view)
        return sorted(events, key=lambda event: _ORDER.index(event.priority))

    def _own_scores(self, labels: Samples, above_db: Samples, *, guarded: bool = True) -> dict[str, Samples]:
        """(n,) of each sound: its highest label, or its loudness; nothing while a guard is stronger."""
        own: dict[str, Samples] = dict(zip(self._sounds.parts, self._sounds.highest(labels).T, strict=True))
        for name, rule in self._rules.items():
            if rule.above_background_db is not None:
                own[name] = np.clip(LOUD * above_db / rule.above_background_db, 0, 1)
        if not guarded:
            return own
        return {
            name: np.where(
                np.max([own[guard] for guard in rule.unless], axis=0) > own[name], np.float32(0), own[name]
            )
            if rule.unless
            else own[name]
            for name, rule in self._rules.items()
        }

    def _view(
        self,
        name: str,
        memory: _Memory,
        labels: Samples,
        levels: Samples,
        own: dict[str, Samples],
        end: float,
        emitted_at: float,
        *,
        closing: bool = False,
    ) -> View:
        rule, detector = self._rules[name], self._detectors[name]
        alarm = None
        if rule.verify != "none" and self._alarms is not None:
            is_due = detector.is_open or own[name].max(initial=0) >= rule.on  # it costs a tenth of a second
            found = self._alarms.find(_cadences(rule)) if is_due else None
            alarm = None if found is None else (memory.scores.cell(found[0]), memory.scores.cell(found[1]))
        is_loudness = not rule.labels  # known at once, and for good
        until = memory.scores.until
        return View(
            scores=own[name],
            labels=labels[:, self._sounds.parts[name]] if rule.labels else labels[:, :0],
            levels=levels[:, 0],
            first=memory.scores.first,
            settled=until if closing or is_loudness else memory.settled,
            final=until if is_loudness else memory.final,
            lag=0 if is_loudness else memory.lag,
            grain=1 if is_loudness else memory.grain,
            origin=memory.scores.time(0),
            end=end,
            emitted_at=emitted_at,
            closing=closing,
            alarm=alarm,
            taken=tuple(
                told for other in self._kin[name] if (told := self._detectors[other].told) is not None
            ),
        )


def _cadences(rule: SoundRule) -> tuple[CadenceName, ...]:
    return tuple(CADENCES) if rule.cadence == "any" else (rule.cadence,)


def _kin(rules: dict[str, SoundRule]) -> dict[str, list[str]]:
    """Of each sound those others that share a label with it, or of which one is a kind of the other."""
    kinds = {name: below(rule.labels) for name, rule in rules.items()}
    return {
        name: [
            other
            for other in rules
            if other != name and (kinds[name] & set(rules[other].labels) or kinds[other] & set(rule.labels))
        ]
        for name, rule in rules.items()
    }


class _Memory:
    """What is known of the latest seconds of an unbroken time: scores and levels, by moment."""

    def __init__(self, n_columns: int, origin: float, keep_s: float) -> None:
        self.scores = Timeline(n_columns, origin, keep_s)
        self.levels = Timeline(2, origin, keep_s)
        """dBFS, and by how much the A-weighted level is above the background's"""
        self._n_columns = n_columns
        self._end = origin
        self.settled = self.final = self.lag = 0
        self.grain = 1

    def add(
        self,
        window: Window,
        scores: Scores | None,
        sounds: Sounds,
        hop_s: float,
        announce_s: float,
        background: Background,
    ) -> None:
        """Take a window; without scores nothing is new in it."""
        since, self._end = self._end, window.end
        levels = _levels(window, since, background)
        self.levels.add(levels, since, window.end, (window.end - since) / len(levels))
        if scores is None:
            # All is as it was. A model that says when may correct it later, and until then nothing settles.
            is_known = self.scores.until > self.scores.first
            last = self.scores.means()[-1:] if is_known else np.zeros((1, self._n_columns), np.float32)
            self.scores.add(last, since, window.end, window.end - since, certainty=_GUESS)
            if self.lag:
                self.final = self.settled = self.scores.until
        elif scores.frames is not None:
            self.scores.add(sounds.pick(scores.frames), window.start, window.end, scores.frame_s)
            self.final = self.scores.cell(window.start)
            self.settled = max(self.settled, self.scores.cell(window.end - announce_s))
        else:
            # A clip-level score rises when the window's end passes an onset, and falls when its start passes
            # the offset: it stands for the newest hop, and falls late by the rest of the window.
            self.scores.add(sounds.pick(scores.clip[None]), since, window.end, window.end - since)
            self.final = self.settled = self.scores.until
            self.grain = round(hop_s / CELL_S)
            self.lag = max(0, round((window.end - window.start) / CELL_S) - self.grain)


def _levels(window: Window, since: float, background: Background) -> npt.NDArray[np.float32]:
    """(n, 2) of what no window before has shown, as `_Memory.levels` has it. The background hears it, too."""
    n = max(1, round((window.end - since) / FAST_S))
    new = window.samples[-max(n, round((window.end - since) * window.sample_rate)) :]
    weighted = levels_dbfs(a_weighted(new, window.sample_rate), n)
    usual_db = background.level_db
    background.add(weighted)
    above_db = np.zeros(n) if usual_db is None else weighted - usual_db
    return np.stack((levels_dbfs(new, n), above_db), axis=1).astype(np.float32)
