"""From the scores of one sound to its events: hysteresis over a timeline that may still change.

    QUIET ── reaches on ──► STARTING ── no rule holds it back: start ──► ACTIVE ── below off ──► STOPPING
      ▲                        │ later windows took it back                ▲ above off ────────────┤
      └────────────────────────┴──────────────────────────────── merge gap has passed: end ────────┘

Each window adds to what is known of the moments before it. So every update goes over the whole timeline
that is remembered: an onset or offset that was emitted may be corrected by a later message, and a sound may
be found late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256

import numpy as np

from streamer.config.schema import SoundRule
from streamer.detection.timeline import CELL_S
from streamer.types import SILENCE_DBFS, Phase, Samples, SoundEvent

_LABEL_MIN = 0.05
"""lowest score of a label that an event names"""
_LABELS_MAX = 5
_PEAK_STEP, _LEVEL_STEP_DB, _ONSET_STEP_S = 0.05, 3.0, 0.1
"""smallest changes of peak, level and onset that are worth an update"""


class State(Enum):
    """What a detector is doing."""

    QUIET = "quiet"
    """no occurrence"""
    STARTING = "starting"
    """an occurrence that is not emitted yet: a rule holds it back, or it is too young"""
    ACTIVE = "active"
    """an event has started"""
    STOPPING = "stopping"
    """an event whose score is below `off`, for less than the merge gap"""


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUIET: frozenset({State.STARTING, State.ACTIVE, State.STOPPING}),
    State.STARTING: frozenset({State.QUIET, State.ACTIVE, State.STOPPING}),
    State.ACTIVE: frozenset({State.STOPPING, State.QUIET, State.STARTING}),
    State.STOPPING: frozenset({State.ACTIVE, State.QUIET, State.STARTING}),
}
"""the states that may follow each after one window, which may end one occurrence and begin the next"""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the timeline, in cells: from `onset` up to `until`, without it."""

    onset: int
    until: int

    def overlaps(self, other: Span) -> bool:
        return self.onset < other.until and other.onset < self.until


@dataclass(frozen=True, slots=True, eq=False)
class SoundScores:
    """The scores of one sound on the timeline, one row a cell; row 0 is cell `first`."""

    scores: Samples
    """(mature - first,) of the sound, smoothed: what thresholds are compared with"""
    labels: Samples
    """(n, n_labels) of each of its labels"""
    levels: Samples
    """(n,) dBFS"""
    first: int
    mature: int
    """cells before this are old enough to start or end an event"""
    final: int
    """cells before this will not change any more"""
    late_by: int = 0
    """cells by which the score falls later than the sound ends; clip-level scores: a window less a hop"""
    resolution: int = 1
    """shortest sound that the scores can tell, in cells"""


@dataclass(frozen=True, slots=True)
class Moment:
    """When an update happens, and what else is known at that time."""

    origin: float
    """time of the start of cell 0"""
    end: float
    """end of the latest window"""
    emitted_at: float
    closing: bool = False
    """no more audio follows: whatever is open ends"""
    alarm: Span | None = None
    """the latest group of beeps of an alarm that was found in the signal"""
    related: tuple[Span, ...] = ()
    """latest events of the sounds that this one yields to: their start keeps it from starting"""
    undecided: tuple[Span, ...] = ()
    """occurrences of sounds that a loudness yields to, which may yet start an event"""
    named_until: float = math.inf
    """cells before this are old enough for all that a loudness yields to; no limit for other sounds"""

    def time(self, cell: int) -> float:
        return min(self.origin + cell * CELL_S, self.end)


@dataclass(slots=True)
class _Occurrence:
    """A stretch in which the score is high enough, an event or not yet. Positions are cells."""

    crossed: int
    """the first cell at or above `on`"""
    onset: int
    """the first of the run at or above `off` that holds `crossed`"""
    until: int
    """the cell after the last at or above `off`"""
    hops: list[bool] = field(default_factory=lambda: [True])
    """for each update, whether the occurrence was still there"""
    verified: bool = False
    """an alarm's beeps were found in it"""
    notifies: bool = True
    """the sound was not cooling down when it started"""
    peak: float = 0.0
    labels: dict[str, float] = field(default_factory=dict)
    level_dbfs: float = SILENCE_DBFS
    first_onset: int = -1
    """the onset as it was emitted first"""
    emitted: SoundEvent | None = None
    """the latest message; None before the start"""
    is_above: bool = True
    """its newest mature cell is at or above `off`"""

    @property
    def span(self) -> Span:
        return Span(self.onset, self.until)


class SoundDetector:
    """Follows one sound of one source. Has no clock: time comes with the windows."""

    def __init__(self, source_id: str, sound: str, rule: SoundRule) -> None:
        self._source_id = source_id
        self._sound = sound
        self._rule = rule
        self._min_duration = _cells(rule.min_duration_s)
        # Cells that touch have no pause between them: the shortest pause is a cell.
        self._gap = max(1, _cells(rule.merge_gap_s))
        self._cool_at = -math.inf
        """time at which the sound has cooled down"""
        self.reset()

    def reset(self) -> None:
        """Begin with a new timeline."""
        self._occurrence: _Occurrence | None = None
        self._done = 0
        """cells before this belong to earlier occurrences"""
        self._last_event: Span | None = None

    @property
    def state(self) -> State:
        occurrence = self._occurrence
        if occurrence is None:
            return State.QUIET
        if occurrence.emitted is None:
            return State.STARTING
        return State.ACTIVE if occurrence.is_above else State.STOPPING

    @property
    def is_quiet(self) -> bool:
        """It has no occurrence: where its scores stay below `on`, an update has nothing to do."""
        return self._occurrence is None

    @property
    def starting(self) -> Span | None:
        """The occurrence that has not started an event."""
        occurrence = self._occurrence
        return occurrence.span if occurrence is not None and occurrence.emitted is None else None

    @property
    def event(self) -> Span | None:
        """Where the open event is, else where the latest one was."""
        occurrence = self._occurrence
        is_open = occurrence is not None and occurrence.emitted is not None
        return occurrence.span if occurrence is not None and is_open else self._last_event

    def update(self, sound: SoundScores, moment: Moment) -> list[SoundEvent]:
        """The messages that a further window leads to, in order. When closing, nothing stays open."""
        scores = sound.scores
        events: list[SoundEvent] = []
        if self._occurrence is not None and not moment.closing:  # a close is no hop
            self._occurrence.hops.append(True)
        while (occurrence := self._occurrence or self._next_occurrence(scores, sound.first)) is not None:
            self._occurrence = occurrence
            is_over = self._follow(occurrence, scores, sound, moment) or moment.closing
            if occurrence.emitted is None and self._was_taken_back(occurrence, scores, sound.first):
                occurrence.hops[-1] = False
                if self._may_return(occurrence, sound, moment):
                    break
                self._occurrence = None
                continue
            if occurrence.emitted is None and not self.held_back_by(occurrence.span, sound, moment):
                occurrence.first_onset = occurrence.onset
                events.append(self._message("start", occurrence, scores, sound, moment))
            elif occurrence.emitted is not None and not is_over and self._has_news(occurrence, moment):
                events.append(self._message("update", occurrence, scores, sound, moment))
            if not is_over or (occurrence.emitted is None and self._may_start(occurrence, sound, moment)):
                break
            if occurrence.emitted is not None:
                events.append(self._message("end", occurrence, scores, sound, moment))
                # The next onset differs from the first of this one, and so does its id.
                self._done = max(self._done, occurrence.until + self._gap, occurrence.first_onset + 1)
                self._last_event = occurrence.span
            else:
                self._done = max(self._done, occurrence.until)
            self._occurrence = None
        return events

    def pending(self, cell: int) -> Span | None:
        """The occurrence at a cell that has not started an event; None where there is none."""
        span = self.starting
        return span if span is not None and span.onset <= cell < span.until else None

    def held_back_by(self, span: Span, sound: SoundScores, moment: Moment) -> str:
        """The rule that keeps the present occurrence from starting, a clause for people; else empty."""
        rule, occurrence = self._rule, self._occurrence
        hops = [True] if occurrence is None else occurrence.hops
        if (n_agree := sum(hops[-rule.confirm_of :])) < rule.confirm:
            return f"{n_agree} of {rule.confirm} hops agree"
        if (length := self._sound_end(span, sound, moment) - span.onset) < self._min_duration:
            return f"{length * CELL_S:.2f} s long, and min_duration_s is {rule.min_duration_s:g}"
        if rule.verify == "require" and (occurrence is None or not occurrence.verified):
            return "the cadence of an alarm is not in the signal"
        if any(span.overlaps(other) for other in moment.related):
            return "a sound that it yields to has started: a kind of it, what it is a kind of, or its name"
        if _may_get_a_name(span, moment):
            return "a loudness, and another sound may yet start that names it"
        return ""

    def _next_occurrence(self, scores: Samples, first: int) -> _Occurrence | None:
        """The first occurrence after those that are done."""
        start = max(0, self._done - first)
        crossed = np.flatnonzero(scores[start:] >= self._rule.on)
        if not crossed.size:
            return None
        cell = first + start + int(crossed[0])
        return _Occurrence(crossed=cell, onset=cell, until=cell + 1)

    def _follow(self, occurrence: _Occurrence, scores: Samples, sound: SoundScores, moment: Moment) -> bool:
        """Correct an occurrence by what is known now. Returns whether it is over."""
        first = sound.first
        is_above = scores >= self._rule.off
        above = np.flatnonzero(is_above) + first
        crossed = occurrence.crossed - first
        if crossed >= 0:  # else it is older than the timeline, and so is the onset: both stay
            if is_above[crossed]:
                below = np.flatnonzero(~is_above[:crossed])
                onset = first + int(below[-1]) + 1 if below.size else min(occurrence.onset, first)
                occurrence.onset = max(onset, self._done)
            else:
                later = above[(above > occurrence.crossed) & (above < occurrence.until + self._gap)]
                occurrence.onset = int(later[0]) if later.size else occurrence.onset

        known = max(occurrence.onset, min(occurrence.until, first) - 1)
        above = np.concatenate(([known], above[above > known]))
        pauses = np.flatnonzero(np.diff(above) > self._gap)
        occurrence.until = int(above[pauses[0]] if pauses.size else above[-1]) + 1

        rows = slice(max(0, occurrence.onset - first), max(0, occurrence.until - first))
        if scores[rows].max(initial=0) > occurrence.peak:
            best = rows.start + int(scores[rows].argmax())
            occurrence.peak = float(scores[best])
            occurrence.labels = _strongest(self._rule.labels, sound.labels[best])
        sounding = slice(rows.start, max(0, self._sound_end(occurrence.span, sound, moment) - first))
        occurrence.level_dbfs = float(sound.levels[sounding].max(initial=occurrence.level_dbfs))
        if moment.alarm is not None:
            reach = Span(occurrence.onset - self._gap, occurrence.until + self._gap)
            occurrence.verified = occurrence.verified or reach.overlaps(moment.alarm)
        occurrence.is_above = bool(is_above.size and is_above[-1])
        return bool(pauses.size) or first + len(scores) - occurrence.until >= self._gap

    def _sound_end(self, span: Span, sound: SoundScores, moment: Moment) -> int:
        """The cell after the sound itself, which may end before its score falls."""
        if moment.closing and span.until >= sound.mature:
            return span.until  # cut off in the middle
        return min(span.until, max(span.onset + sound.resolution, span.until - sound.late_by))

    def _was_taken_back(self, occurrence: _Occurrence, scores: Samples, first: int) -> bool:
        """Later windows lowered the scores that reached `on`."""
        if occurrence.crossed < first:
            return False
        rows = scores[occurrence.onset - first : occurrence.until - first]
        return bool(rows.max(initial=0) < self._rule.on)

    def _may_return(self, occurrence: _Occurrence, sound: SoundScores, moment: Moment) -> bool:
        """A hop disagrees, but `confirm_of` allows it, and the next windows will score the moment again."""
        n_allowed = self._rule.confirm_of - self._rule.confirm
        is_open = occurrence.until > sound.final and not moment.closing
        return occurrence.hops.count(False) <= n_allowed and is_open

    def _may_start(self, occurrence: _Occurrence, sound: SoundScores, moment: Moment) -> bool:
        """It is over, but too few hops agree yet and the next will score it again, or it may get a name."""
        if _may_get_a_name(occurrence.span, moment):
            return not any(occurrence.span.overlaps(other) for other in moment.related)
        n_agree = sum(occurrence.hops[-self._rule.confirm_of :])
        return n_agree < self._rule.confirm and occurrence.until > sound.final and not moment.closing

    def _has_news(self, occurrence: _Occurrence, moment: Moment) -> bool:
        before = occurrence.emitted
        if before is None:
            return False
        if occurrence.verified and before.verified is False:
            return True  # that an alarm is real does not wait for the next update
        return moment.end - before.heard_at >= self._rule.update_s - CELL_S / 2 and (
            occurrence.peak - before.peak >= _PEAK_STEP
            or occurrence.level_dbfs - before.level_dbfs >= _LEVEL_STEP_DB
            or abs(moment.time(occurrence.onset) - before.onset) >= _ONSET_STEP_S
        )

    def _message(
        self, phase: Phase, occurrence: _Occurrence, scores: Samples, sound: SoundScores, moment: Moment
    ) -> SoundEvent:
        onset = moment.time(occurrence.onset)
        if occurrence.emitted is None:
            # After the clock was set back, a cool-down of the old time does not count.
            cooldown_s = self._rule.cooldown_s
            occurrence.notifies = not self._cool_at - cooldown_s <= onset < self._cool_at
            if occurrence.notifies:
                self._cool_at = onset + cooldown_s
        level_dbfs = occurrence.level_dbfs
        if phase == "start" and occurrence.until >= sound.mature:
            # It goes on, so all since its onset belongs to it: the mature part is short and may be faint.
            newest = sound.levels[max(0, occurrence.onset - sound.first) :]
            level_dbfs = float(newest.max(initial=level_dbfs))
        score = float(scores[-1]) if scores.size else 0.0
        occurrence.emitted = SoundEvent(
            id=occurrence.emitted.id if occurrence.emitted else self._id(onset),
            source_id=self._source_id,
            sound=self._sound,
            phase=phase,
            onset=onset,
            offset=moment.time(self._sound_end(occurrence.span, sound, moment)) if phase == "end" else None,
            peak=occurrence.peak,
            score=occurrence.peak if phase == "start" else score,
            labels=occurrence.labels,
            level_dbfs=level_dbfs,
            emitted_at=moment.emitted_at,
            heard_at=moment.end,
            verified=occurrence.verified if self._rule.verify != "none" else None,
            notify=occurrence.notifies,
            priority=self._rule.priority,
        )
        return occurrence.emitted

    def _id(self, onset: float) -> str:
        """The same audio gives the same events, so the same ids."""
        return sha256(f"{self._source_id}/{self._sound}/{round(1000 * onset)}".encode()).hexdigest()[:12]


def _may_get_a_name(span: Span, moment: Moment) -> bool:
    """A sound that this one yields to may yet start where it is."""
    if moment.closing:
        return False
    return span.onset >= moment.named_until or any(span.overlaps(other) for other in moment.undecided)


def _cells(seconds: float) -> int:
    return math.ceil(seconds / CELL_S - 1e-6)


def _strongest(names: Sequence[str], scores: Samples) -> dict[str, float]:
    ordered = sorted(zip(names, scores.tolist(), strict=True), key=lambda label: -label[1])
    return {name: score for name, score in ordered[:_LABELS_MAX] if score >= _LABEL_MIN}
