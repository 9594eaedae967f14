"""From what was sensed in windows, and their scores, to events: live, offline and from a log of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamer.config.schema import LOUD, Config, SoundRule
from streamer.detection.detector import Moment, SoundDetector, SoundScores, Span
from streamer.detection.memory import Memory
from streamer.detection.smoothing import median, median_width
from streamer.detection.sounds import Sounds
from streamer.detection.timeline import CELL_S
from streamer.detection.veto import HOLDS
from streamer.model.labels import descendants
from streamer.types import Beeps, Priority, Samples, Scores, Sensed, SoundEvent

_ROUNDING = 1e-3
"""by which a mean may be above the highest of its scores"""
_NAME_S = 1.0
"""what is loud may be known by name so much later than by its level: scores rise slower"""
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
    veto: float | None
    """how much it is like events that were marked wrong; None where it has no veto"""
    held_back_by: str
    """the rule that keeps an occurrence from starting an event; empty where there is none"""
    level_dbfs: float


class Decider:
    """Turns scores into events by the rules of a configuration. Has no clock: time comes with the windows.

    The sounds of a source are computed together, as the columns of one array; only those that may have an
    event then have a detector look at them.
    """

    def __init__(self, source_id: str, config: Config, labels: Sequence[str]) -> None:
        """`labels` are the model's. Raises ConfigError when a sound has a label that the model does not."""
        self._hop_s = config.hop_s
        self._announce_s = config.detection.announce_s
        self._width = median_width(config.detection.smoothing_s)
        labelled = {name: rule for name in config.sounds if (rule := config.sound(name)).labels}
        loud = {name: rule for name in config.sounds if not (rule := config.sound(name)).labels}
        self._rules = {**labelled, **loud}
        vetoes = {name: rule.veto for name, rule in labelled.items() if rule.veto is not None}
        self._sounds = Sounds({name: rule.labels for name, rule in labelled.items()}, labels, vetoes)
        self._column = {name: column for column, name in enumerate(self._rules)}
        self._on = np.array([rule.on for rule in self._rules.values()], np.float32)
        self._above_db = np.array([rule.above_background_db for rule in loud.values()], np.float32)
        self._guards = {
            self._column[name]: [self._column[guard] for guard in rule.unless]
            for name, rule in self._rules.items()
            if rule.unless
        }
        # What yields comes last: of a Bark, a Dog and a loudness that start together the Bark is emitted.
        self._detectors = {
            name: SoundDetector(source_id, name, self._rules[name])
            for name in sorted(config.sounds, key=lambda name: _generality(self._rules[name]))
        }
        self._yields_to = _yields_to({name: self._rules[name] for name in config.sounds})
        self._beeps: dict[str, Beeps] = {}
        """the latest group of each rhythm"""
        self._missed: list[Sensed] = []
        """windows since the last one that was decided on, whose levels still count"""
        self._end = -math.inf
        """end of the latest window"""
        self._memory: Memory | None = None

    def decide(self, sensed: Sensed, scores: Scores | None, emitted_at: float) -> list[SoundEvent]:
        """The events that a window leads to, in order; `scores` are None where it need not be scored.

        Windows may be missing, but come in order of time. Where time breaks off (no audio for a while, a
        clock that was set back), open events end first.
        """
        start = sensed.audio_start
        events = []
        if sensed.end <= self._end:
            events = self.close(self._end, max(emitted_at, self._end))
            self._end = sensed.end - self._hop_s  # the rest of the window came before, by another time
        elif start > self._end + CELL_S:
            events = self.close(self._end, emitted_at)

        memory = self._memory
        if memory is None:
            if scores is None or scores.frames is None:
                # A clip-level score counts for what is new in the window.
                start = max(start, sensed.end - self._hop_s)
            memory = self._memory = self._memory_from(max(start, self._end), sensed.end - sensed.start)
        memory.add(sensed, scores, self._missed)
        self._missed.clear()
        for beeps in sensed.beeps:
            self._beeps[beeps.cadence] = beeps
        self._end = sensed.end
        return events + self._detect(memory, sensed.end, emitted_at)

    @property
    def origin(self) -> float | None:
        """When the timeline begins; None where there is none yet."""
        return None if self._memory is None else self._memory.scores.time(0)

    @property
    def is_quiet(self) -> bool:
        """No sound has an event, or an occurrence that may become one."""
        return all(detector.is_quiet for detector in self._detectors.values())

    def leap(self, to: float, origin: float, window_s: float) -> None:
        """Go on with the window after one that ended at `to`, on a timeline that began at `origin`.

        Only while `is_quiet`, and where no sound can have reached `on` in the windows between. Their scores
        are forgotten: `decide` is exact again once it has taken as much audio as it remembers.
        """
        if self._memory is None or self.origin != origin:
            self._memory = self._memory_from(origin, window_s)
        self._memory.leap(to)
        self._end, self._missed = to, []

    def miss(self, sensed: Sensed) -> None:
        """A window that had to be scored and was not: its levels still count, should the next one follow."""
        self._missed = [one for one in (*self._missed, sensed) if one.end > sensed.start]

    def follow(self, before: Decider) -> None:
        """Go on where another decider, which had other rules and was closed, stopped."""
        self._end, self._missed, self._beeps = before._end, before._missed, before._beeps

    def close(self, at: float, emitted_at: float) -> list[SoundEvent]:
        """End all events: the source has ended, or is not listened to any more. Windows may follow later."""
        memory, self._memory = self._memory, None
        if memory is None:
            return []
        events = self._detect(memory, min(at, self._end), emitted_at, closing=True)
        for detector in self._detectors.values():
            detector.reset()
        return events

    def newest_scores(self) -> dict[str, float]:
        """The smoothed score of each sound at the newest moment that may start an event."""
        memory = self._memory
        if memory is None:
            return {}
        end = min(memory.mature, memory.scores.until) - memory.scores.first
        if end <= 0:
            return {}
        reach = self._width // 2
        rows = slice(max(0, end - 1 - reach), end + reach)
        above_db = memory.levels.means(rows, slice(1, 2))
        means = memory.scores.means(rows)
        by_sound = self._guarded(self._raw(means, above_db), means)
        newest = median(by_sound, self._width)[end - 1 - rows.start]
        return dict(zip(self._rules, newest.tolist(), strict=True))

    def inspect(self, sound: str, at: float) -> Inspection | None:
        """What is known now of a sound at a time; None where that is forgotten, or not old enough."""
        memory = self._memory
        cell = memory.scores.cell(at) if memory is not None else 0
        if memory is None or not memory.scores.first <= cell < memory.mature:
            return None
        row, column = cell - memory.scores.first, self._column[sound]
        means = memory.scores.means()
        raw = self._raw(means, memory.levels.means(columns=slice(1, 2)))
        smoothed = median(self._guarded(raw, means), self._width)[:, column]
        rule, detector = self._rules[sound], self._detectors[sound]
        levels = memory.levels.means(columns=slice(1))[:, 0]
        scores = self._scores_of(sound, memory, smoothed, levels, closing=False)
        moment = self._moment(sound, memory, self._end, self._end, closing=False)
        pending = detector.pending(cell)
        guards = {guard: float(raw[row, self._column[guard]]) for guard in rule.unless}
        return Inspection(
            raw=float(raw[row, column]),
            smoothed=float(smoothed[row]),
            labels=dict(zip(rule.labels, scores.labels[row].tolist(), strict=True)),
            guards={guard: score for guard, score in guards.items() if score > raw[row, column]},
            veto=float(means[row, self._sounds.vetoes[sound]]) if sound in self._sounds.vetoes else None,
            held_back_by="" if pending is None else detector.held_back_by(pending, scores, moment),
            level_dbfs=float(scores.levels[row]),
        )

    def _memory_from(self, origin: float, window_s: float) -> Memory:
        return Memory(
            self._sounds,
            origin,
            hop_s=self._hop_s,
            announce_s=self._announce_s,
            window_s=window_s,
        )

    def _detect(
        self, memory: Memory, end: float, emitted_at: float, *, closing: bool = False
    ) -> list[SoundEvent]:
        # The usual case, cheaply: what stays below `on` in all its labels has no event, guarded or smoothed.
        bounds = self._raw(memory.scores.bounds()[None], memory.levels.bounds()[None, 1:])[0]
        may_start = dict(zip(self._rules, (bounds > self._on - _ROUNDING).tolist(), strict=True))
        raw = {
            name: self._raw_of(name, memory)
            for name, detector in self._detectors.items()
            if may_start[name] or not detector.is_quiet
        }
        active = [
            name
            for name, scores in raw.items()
            if not self._detectors[name].is_quiet or scores.max() >= self._on[self._column[name]]
        ]
        if not active:
            return []
        guarded = np.stack([self._guarded_of(name, raw, memory) for name in active], axis=1)
        smoothed = median(guarded, self._width)
        levels = memory.levels.means(columns=slice(1))[:, 0]
        events = []
        for own, name in zip(smoothed.T, active, strict=True):
            scores = self._scores_of(name, memory, own, levels, closing=closing)
            moment = self._moment(name, memory, end, emitted_at, closing=closing)
            events += self._detectors[name].update(scores, moment)
        return sorted(events, key=lambda event: _ORDER.index(event.priority))

    def _raw(self, labels: Samples, above_db: Samples) -> Samples:
        """(n, n_labels), (n, 1) -> (n, n_sounds): the highest label of each sound, or its loudness."""
        highest = self._sounds.highest(labels)
        if not self._above_db.size:
            return highest
        return np.concatenate((highest, np.clip(LOUD * above_db / self._above_db, 0, 1)), axis=1)

    def _guarded(self, raw: Samples, picked: Samples) -> Samples:
        """(n, n_sounds): 0 where a sound of `unless` scores higher, and where the veto holds."""
        if not self._guards and not self._sounds.vetoes:
            return raw
        guarded = raw.copy()
        for name, veto in self._sounds.vetoes.items():
            guarded[picked[:, veto] >= HOLDS, self._column[name]] = 0
        for column, guards in self._guards.items():
            guarded[raw[:, guards].max(axis=1) > raw[:, column], column] = 0
        return guarded

    def _raw_of(self, name: str, memory: Memory) -> Samples:
        """(n,) one column of `_raw`."""
        if self._rules[name].labels:
            highest: Samples = memory.scores.means(columns=self._sounds.parts[name]).max(axis=1)
            return highest
        above_db = memory.levels.means(columns=slice(1, 2))[:, 0]
        loud_db = self._above_db[self._column[name] - len(self._sounds.parts)]
        return np.asarray(np.clip(LOUD * above_db / loud_db, 0, 1))

    def _guarded_of(self, name: str, raw: dict[str, Samples], memory: Memory) -> Samples:
        """(n,) one column of `_guarded`; `raw` is what is there of `_raw`, and takes what is added."""
        own = raw[name]
        if (veto := self._sounds.vetoes.get(name)) is not None:
            own = np.where(
                memory.scores.means(columns=slice(veto, veto + 1))[:, 0] >= HOLDS, np.float32(0), own
            )
        guards = self._rules[name].unless
        if not guards:
            return own
        for guard in guards:
            if guard not in raw:
                raw[guard] = self._raw_of(guard, memory)
        return np.where(np.maximum.reduce([raw[guard] for guard in guards]) > own, np.float32(0), own)

    def _scores_of(
        self, name: str, memory: Memory, smoothed: Samples, levels: Samples, *, closing: bool
    ) -> SoundScores:
        rule, until = self._rules[name], memory.scores.until
        is_loudness = not rule.labels  # a level is known at once, and never changes
        mature = until if closing or is_loudness else memory.mature
        return SoundScores(
            scores=smoothed[: max(0, mature - memory.scores.first)],
            labels=memory.scores.means(columns=self._sounds.parts[name] if rule.labels else slice(0)),
            levels=levels,
            first=memory.scores.first,
            mature=mature,
            final=until if is_loudness else memory.final,
            late_by=0 if is_loudness else memory.late_by,
            resolution=1 if is_loudness else memory.resolution,
        )

    def _moment(self, name: str, memory: Memory, end: float, emitted_at: float, *, closing: bool) -> Moment:
        rule = self._rules[name]
        alarm = None
        if rule.verify != "none":
            found = [one for one in self._beeps.values() if rule.cadence in ("any", one.cadence)]
            latest = max(found, key=lambda one: one.end, default=None)
            if latest is not None:
                alarm = Span(memory.scores.cell(latest.begin), memory.scores.cell(latest.end))
        others = [self._detectors[other] for other in self._yields_to[name]]
        is_loudness = not rule.labels and bool(others)
        starting = [other.starting for other in others] if is_loudness else []
        named_s = end - self._announce_s - _NAME_S
        return Moment(
            origin=memory.scores.time(0),
            end=end,
            emitted_at=emitted_at,
            closing=closing,
            alarm=alarm,
            related=tuple(other.event for other in others if other.event is not None),
            undecided=tuple(span for span in starting if span and span.onset >= memory.scores.first),
            named_until=memory.scores.cell(named_s) if is_loudness else math.inf,
        )


def _generality(rule: SoundRule) -> tuple[bool, int]:
    """The more kinds a sound has the more general it is, and a loudness, which has no labels, is the most."""
    return not rule.labels, len(descendants(rule.labels))


def _yields_to(rules: dict[str, SoundRule]) -> dict[str, list[str]]:
    """For each sound the others whose event keeps it from starting one.

    Those that share a label with it, or of which one is a kind of the other; for a loudness all with labels.
    """
    kinds = {name: descendants(rule.labels) for name, rule in rules.items()}
    return {
        name: [
            other
            for other in rules
            if other != name
            and (
                kinds[name] & set(rules[other].labels) or kinds[other] & set(rule.labels)
                if rule.labels
                else rules[other].labels
            )
        ]
        for name, rule in rules.items()
    }
