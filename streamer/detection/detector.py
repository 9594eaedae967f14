"""From the scores of one sound to its occurrences: hysteresis over a time line that may still change.

    QUIET ── reaches on ──► STARTING ── confirmed, long enough: start ──► ACTIVE ── below off ──► STOPPING
      ▲                                                             update ◄──────── above off ──────┤
      └─────────────────────────────────────────────────────────── merge gap has passed: end ────────┘

Each window knows more of the moments before it. So every update looks at all that is remembered:
an onset or offset that was said may be corrected by a later message, and a sound may be found late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from streamer.config.schema import SoundRule
from streamer.detection.smoothing import median
from streamer.detection.timeline import CELL_S
from streamer.types import SILENCE_DBFS, Phase, Samples, SoundEvent

_LABEL_MIN = 0.05
"""A label below this says nothing about an event."""
_LABELS_MAX = 5
_PEAK_STEP, _LEVEL_STEP_DB, _ONSET_STEP_S = 0.05, 3.0, 0.1
"""Less of a change is not worth an update."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The time line of one sound, as a window left it. Places and lengths are in cells; row 0 is `first`."""

    scores: Samples
    """(n,) of the sound"""
    labels: Samples
    """(n, n_labels) of each of its labels"""
    levels: Samples
    """(n,) dBFS"""
    first: int
    settled: int
    """what lies before is old enough to start or end an event"""
    final: int
    """what lies before will not change any more"""
    lag: int
    """how much later the score falls than the sound ends: of a clip-level model, a window less a hop"""
    grain: int
    """the shortest sound that the scores can tell"""
    origin: float
    """when cell 0 begins"""
    end: float
    """when what was heard ends"""
    emitted_at: float
    closing: bool = False
    """nothing more will be heard"""
    alarm: tuple[int, int] | None = None
    """where the latest group of beeps of an alarm was"""
    taken: tuple[tuple[int, int], ...] = ()
    """where kinds of this sound, or sounds that this is a kind of, have been told"""

    def time(self, cell: int) -> float:
        return min(self.origin + cell * CELL_S, self.end)


@dataclass(slots=True)
class _Occurrence:
    """A sound that goes on, or seems to. Places are cells."""

    crossed: int
    """the first that reached `on`"""
    onset: int
    """the first of the run above `off` that holds `crossed`"""
    until: int
    """the one after the last above `off`"""
    hops: list[bool] = field(default_factory=lambda: [True])
    """of each update, whether it agreed"""
    verified: bool = False
    """an alarm's beeps were in it"""
    notifies: bool = True
    """the sound had cooled down"""
    peak: float = 0.0
    labels: dict[str, float] = field(default_factory=dict)
    level_dbfs: float = SILENCE_DBFS
    announced: int = -1
    """the onset as it was said first"""
    said: SoundEvent | None = None
    """the latest message; None before the start"""


class SoundDetector:
    """Follows one sound of one source."""

    def __init__(self, source_id: str, sound: str, rule: SoundRule) -> None:
        self._source_id = source_id
        self._sound = sound
        self._rule = rule
        self._width = 2 * max(0, round((rule.smoothing_s / CELL_S - 1) / 2)) + 1
        self._min_duration = _cells(rule.min_duration_s)
        # Cells that touch have no pause between them: the shortest pause is a cell.
        self._gap = max(1, _cells(rule.merge_gap_s))
        self._quiet_until = -math.inf
        """when the sound has cooled down"""
        self.reset()

    def reset(self) -> None:
        """Begin with a new time line."""
        self._occurrence: _Occurrence | None = None
        self._told = 0
        """what lies before belongs to earlier occurrences"""
        self._latest: tuple[int, int] | None = None

    @property
    def is_open(self) -> bool:
        """Something sounds, or seems to."""
        return self._occurrence is not None

    @property
    def told(self) -> tuple[int, int] | None:
        """Where the latest occurrence that has been told of is, or was. Cells."""
        now = self._occurrence
        return (now.onset, now.until) if now is not None and now.said is not None else self._latest

    def update(self, view: View) -> list[SoundEvent]:
        """What there is to say after a window, in order. When `view.closing` is set, nothing stays open."""
        if self._occurrence is None and view.scores.max(initial=0) < self._rule.on:
            return []  # the usual case, cheaply: a median is never above its highest score
        scores = self.smooth(view)
        events: list[SoundEvent] = []
        if self._occurrence is not None and not view.closing:  # a close is no hop
            self._occurrence.hops.append(True)
        while (now := self._occurrence or self._find(scores, view.first)) is not None:
            self._occurrence = now
            over = self._follow(now, scores, view) or view.closing
            if now.said is None and self._has_vanished(now, scores, view.first):
                now.hops[-1] = False
                if self._may_come_back(now, view):
                    break
                self._occurrence = None
                continue
            if now.said is None and not self.doubts(now, view):
                now.announced = now.onset
                events.append(self._say("start", now, scores, view))
            elif now.said is not None and not over and self._is_news(now, view):
                events.append(self._say("update", now, scores, view))
            if not over or (now.said is None and self._may_be_confirmed(now, view)):
                break
            if now.said is not None:
                events.append(self._say("end", now, scores, view))
                # The next onset differs from what this one was announced with, and so does its id.
                self._told = max(self._told, now.until + self._gap, now.announced + 1)
                self._latest = now.onset, now.until
            else:
                self._told = max(self._told, now.until)
            self._occurrence = None
        return events

    def smooth(self, view: View) -> Samples:
        """(settled - first,): the scores that count, for as long as they are old enough."""
        return median(view.scores, self._width)[: max(0, view.settled - view.first)]

    def doubts_at(self, cell: int, view: View) -> str:
        """Why what sounds at a cell is not told yet; nothing where it is, or where nothing sounds."""
        now = self._occurrence
        is_there = now is not None and now.said is None and now.onset <= cell < now.until
        return self.doubts(now, view) if now is not None and is_there else ""

    def _find(self, scores: Samples, first: int) -> _Occurrence | None:
        """The first occurrence that has not been told."""
        start = max(0, self._told - first)
        crossed = np.flatnonzero(scores[start:] >= self._rule.on)
        if not crossed.size:
            return None
        cell = first + start + int(crossed[0])
        return _Occurrence(crossed=cell, onset=cell, until=cell + 1)

    def _follow(self, now: _Occurrence, scores: Samples, view: View) -> bool:
        """Correct an occurrence by what is known now. Returns whether it is over."""
        is_above = scores >= self._rule.off
        above = np.flatnonzero(is_above) + view.first
        crossed = now.crossed - view.first
        if crossed >= 0:  # else it is older than the memory, and so is the onset: both stay
            if is_above[crossed]:
                below = np.flatnonzero(~is_above[:crossed])
                onset = view.first + int(below[-1]) + 1 if below.size else min(now.onset, view.first)
                now.onset = max(onset, self._told)
            else:
                later = above[(above > now.crossed) & (above < now.until + self._gap)]
                now.onset = int(later[0]) if later.size else now.onset

        known = max(now.onset, min(now.until, view.first) - 1)
        above = np.concatenate(([known], above[above > known]))
        pauses = np.flatnonzero(np.diff(above) > self._gap)
        now.until = int(above[pauses[0]] if pauses.size else above[-1]) + 1

        rows = slice(max(0, now.onset - view.first), max(0, now.until - view.first))
        if scores[rows].max(initial=0) > now.peak:
            best = rows.start + int(scores[rows].argmax())
            now.peak = float(scores[best])
            now.labels = _strongest(self._rule.labels, view.labels[best])
        sounding = slice(rows.start, max(0, self._until(now, view) - view.first))
        now.level_dbfs = float(view.levels[sounding].max(initial=now.level_dbfs))
        if view.alarm is not None:
            begin, end = view.alarm
            now.verified = now.verified or (begin < now.until + self._gap and now.onset - self._gap < end)
        return bool(pauses.size) or view.first + len(scores) - now.until >= self._gap

    def _until(self, now: _Occurrence, view: View) -> int:
        """Where the sound itself ends, which may be before its score falls."""
        if view.closing and now.until >= view.settled:
            return now.until  # cut off while it was heard
        return min(now.until, max(now.onset + view.grain, now.until - view.lag))

    def _has_vanished(self, now: _Occurrence, scores: Samples, first: int) -> bool:
        """Later windows took back what seemed to begin."""
        if now.crossed < first:
            return False
        return bool(scores[now.onset - first : now.until - first].max(initial=0) < self._rule.on)

    def _may_come_back(self, now: _Occurrence, view: View) -> bool:
        """A hop disagrees, but so many need not agree, and the next ones will see it again."""
        n_may = self._rule.confirm_of - self._rule.confirm
        return now.hops.count(False) <= n_may and now.until > view.final and not view.closing

    def doubts(self, now: _Occurrence, view: View) -> str:
        """Why an occurrence is not told yet, a clause for people; nothing where it may be."""
        rule = self._rule
        if (n_agree := sum(now.hops[-rule.confirm_of :])) < rule.confirm:
            return f"{n_agree} of {rule.confirm} hops agree"
        if (length := self._until(now, view) - now.onset) < self._min_duration:
            return f"{length * CELL_S:.2f} s long, and min_duration_s is {rule.min_duration_s:g}"
        if rule.verify == "require" and not now.verified:
            return "the cadence of an alarm is not in the signal"
        if any(begin < now.until and now.onset < end for begin, end in view.taken):
            return "a kind of it has been told, or what it is a kind of"
        return ""

    def _may_be_confirmed(self, now: _Occurrence, view: View) -> bool:
        """It is past, but the next window will see it again."""
        n_agree = sum(now.hops[-self._rule.confirm_of :])
        return n_agree < self._rule.confirm and now.until > view.final and not view.closing

    def _is_news(self, now: _Occurrence, view: View) -> bool:
        said = now.said
        if said is None:
            return False
        if now.verified and said.verified is False:
            return True  # that it is a real alarm does not wait for its turn
        return view.end - said.heard_at >= self._rule.update_s - CELL_S / 2 and (
            now.peak - said.peak >= _PEAK_STEP
            or now.level_dbfs - said.level_dbfs >= _LEVEL_STEP_DB
            or abs(view.time(now.onset) - said.onset) >= _ONSET_STEP_S
        )

    def _say(self, phase: Phase, now: _Occurrence, scores: Samples, view: View) -> SoundEvent:
        onset = view.time(now.onset)
        if now.said is None:
            # Where the clock was set back, what was said by the old time does not count.
            now.notifies = not self._quiet_until - self._rule.cooldown_s <= onset < self._quiet_until
            if now.notifies:
                self._quiet_until = onset + self._rule.cooldown_s
        level_dbfs = now.level_dbfs
        if phase == "start" and now.until >= view.settled:
            # It goes on, so all heard since is its own: the settled part is short, and may be faint.
            level_dbfs = float(view.levels[max(0, now.onset - view.first) :].max(initial=level_dbfs))
        now.said = SoundEvent(
            id=now.said.id if now.said else self._id(onset),
            source_id=self._source_id,
            sound=self._sound,
            phase=phase,
            onset=onset,
            offset=view.time(self._until(now, view)) if phase == "end" else None,
            peak=now.peak,
            score=float(scores[-1]) if scores.size else 0.0,
            labels=now.labels,
            level_dbfs=level_dbfs,
            emitted_at=view.emitted_at,
            heard_at=view.end,
            verified=now.verified if self._rule.verify != "none" else None,
            notify=now.notifies,
            priority=self._rule.priority,
        )
        return now.said

    def _id(self, onset: float) -> str:
        """The same audio has the same events, so the same ids."""
        return sha256(f"{self._source_id}/{self._sound}/{round(1000 * onset)}".encode()).hexdigest()[:12]


def _cells(seconds: float) -> int:
    return math.ceil(seconds / CELL_S - 1e-6)


def _strongest(names: Sequence[str], scores: Samples) -> dict[str, float]:
    ordered = sorted(zip(names, scores.tolist(), strict=True), key=lambda label: -label[1])
    return {name: score for name, score in ordered[:_LABELS_MAX] if score >= _LABEL_MIN}
