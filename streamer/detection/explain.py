"""Why a sound started an event at a moment, or did not: in sentences, by the rules that decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.config.schema import Config, SoundRule
from streamer.detection.decider import Inspection
from streamer.detection.veto import HOLDS
from streamer.types import SoundEvent


@dataclass(frozen=True, slots=True)
class Explanation:
    """What decided on a sound at a moment."""

    rule: SoundRule
    first: Inspection | None
    """what was known when the moment became old enough to count"""
    last: Inspection | None
    """what was known after all windows that saw it; None where there was no audio"""
    held_back_by: str
    """the rule that kept an occurrence from starting an event, the last time that one did"""
    events: Sequence[SoundEvent]
    """messages of the sound's event about that moment"""
    is_scored: bool
    """whether the window that ended after the moment was scored"""

    def lines(self, clock: Callable[[float], str] = lambda at: f"{at:.2f} s") -> list[tuple[str, str]]:
        """(what, outcome), the decision last; `clock` writes times for people."""
        gate = "the window was scored" if self.is_scored else "quiet: the next scored window covers it, too"
        if self.last is None:
            return [("gate", gate), ("decided by", "nothing: there is no audio at this moment")]
        rows = [("gate", gate), *self._scores(self.last), *self._rules(self.last)]
        return [*rows, ("decided by", self._decision(self.last, clock))]

    def _scores(self, last: Inspection) -> list[tuple[str, str]]:
        strongest = sorted(last.labels.items(), key=lambda label: -label[1])
        labels = ", ".join(f"{label} {score:.2f}" for label, score in strongest[:5])
        rows = [("level", f"{last.level_dbfs:.0f} dBFS"), ("raw score", f"{last.raw:.3f}   {labels}")]
        if self.first is not None and abs(self.first.raw - last.raw) >= 0.01:
            rows.append(("at first", f"{self.first.raw:.3f}, before later windows had scored the moment"))
        return rows

    def _rules(self, last: Inspection) -> list[tuple[str, str]]:
        rule, rows = self.rule, []
        if rule.unless:
            guards = ", ".join(f"{guard} {score:.2f}" for guard, score in last.guards.items())
            none = f"none of {', '.join(rule.unless)} is stronger"
            rows.append(("guard", f"{guards} is stronger" if guards else none))
        if last.veto is not None:
            outcome = "like events that were marked wrong" if last.veto >= HOLDS else "does not hold it back"
            rows.append(("veto", f"{last.veto:.2f}   {outcome}"))
        rows += [
            ("smoothed", f"{last.smoothed:.3f}   median over {rule.smoothing_s:g} s"),
            ("thresholds", f"on {rule.on:g}, off {rule.off:g}: {self._position(last)}"),
            ("confirm", f"{rule.confirm} of {rule.confirm_of} hops"),
        ]
        if rule.verify != "none" and self.events:
            verified = self.events[-1].verified
            rows.append(("cadence", "found in the signal" if verified else "not in the signal"))
        if rule.cooldown_s and self.events:
            over = self.events[0].notify
            rows.append(("cool-down", "over: it notifies" if over else "not over: it does not notify"))
        return rows

    def _position(self, last: Inspection) -> str:
        if last.smoothed >= self.rule.on:
            return "reaches on"
        return "above off" if last.smoothed >= self.rule.off else "below off"

    def _decision(self, last: Inspection, clock: Callable[[float], str]) -> str:
        if self.events:
            start, end = self.events[0], self.events[-1]
            until = "the end" if end.offset is None else clock(end.offset)
            times = f"from {clock(end.onset)} to {until}, started at {clock(start.emitted_at)}"
            return f"event {start.id}, {times}"
        if last.guards or (last.veto is not None and last.veto >= HOLDS):
            return f"the {'guard' if last.guards else 'veto'}: no event"
        if self.held_back_by:
            return f"no event: {self.held_back_by}"
        if last.smoothed >= self.rule.on:
            return "no event: the score was there for too short a time, or too late"
        if last.smoothed >= self.rule.off:
            return "the threshold: above off, but no moment about it reached on"
        return "the threshold: no event"


def explanation(
    config: Config,
    events: Sequence[SoundEvent],
    inspections: Sequence[Inspection],
    *,
    sound: str,
    at: float,
    is_scored: bool,
) -> Explanation:
    """From all messages about a moment, and what was known of a sound there after each window."""
    latest = {event.id: event for event in events if event.sound == sound}
    about = {key for key, event in latest.items() if event.onset <= at <= (event.offset or math.inf)}
    return Explanation(
        rule=config.sound(sound),
        first=inspections[0] if inspections else None,
        last=inspections[-1] if inspections else None,
        held_back_by=next((one.held_back_by for one in reversed(inspections) if one.held_back_by), ""),
        events=[event for event in events if event.id in about],
        is_scored=is_scored,
    )
