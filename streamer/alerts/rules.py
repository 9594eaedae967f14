"""Which events alert: by sound and priority, quiet hours, cool-down, and how many an hour. Pure.

All is judged by when an event began, so that what an outage has delayed is judged as if there had been none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import get_args
from zoneinfo import ZoneInfo

from streamer.config.schema import AlertSettings
from streamer.types import Priority, SoundEvent

HOUR_S = 3600.0
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""the lowest first"""


class Verdict(Enum):
    """What becomes of an event."""

    SEND = auto()
    LEAVE_OUT = auto()
    LIMIT = auto()
    """the first that is left out because there were as many in an hour as there may be: say so once"""


class Rules:
    """Of one target: it remembers what was sent."""

    def __init__(self, settings: AlertSettings, zone: ZoneInfo) -> None:
        """`zone` is that of the quiet hours."""
        self._settings = settings
        self._zone = zone
        self._latest: dict[tuple[str, str], float] = {}
        """by source and sound: the onset of the latest event that was sent"""
        self._sent: deque[float] = deque()
        """onsets of an hour, without those of critical events"""
        self._is_limited = False

    def judge(self, event: SoundEvent) -> Verdict:
        """Judge an event, once; one that is to be sent counts as sent."""
        if not self._is_wanted(event):
            return Verdict.LEAVE_OUT
        if event.priority != "critical":
            if not self._may_come_now(event):
                return Verdict.LEAVE_OUT
            if len(self._sent) >= self._settings.at_most_an_hour:
                is_first, self._is_limited = not self._is_limited, True
                return Verdict.LIMIT if is_first else Verdict.LEAVE_OUT
            self._is_limited = False
            self._sent.append(event.onset)
        self._latest[event.source_id, event.sound] = event.onset
        return Verdict.SEND

    def free_at(self) -> float:
        """When the next one may be sent, once there were as many as there may be in an hour."""
        return self._sent[0] + HOUR_S if self._sent else 0.0

    def _is_wanted(self, event: SoundEvent) -> bool:
        """Each occurrence alerts once: when it begins, or has ended where its clip goes with it."""
        own = self._settings.sounds.get(event.sound)
        waits = self._settings.attach == "clip" and event.priority != "critical"
        if event.phase != ("end" if waits else "start") or not event.notify:
            return False
        if own is not None:
            return own.send
        return PRIORITIES.index(event.priority) >= PRIORITIES.index(self._settings.min_priority)

    def _may_come_now(self, event: SoundEvent) -> bool:
        settings, onset = self._settings, event.onset
        own = settings.sounds.get(event.sound)
        if not (own is not None and own.in_quiet_hours) and is_quiet(settings.quiet_hours, onset, self._zone):
            return False
        cooldown_s = settings.cooldown_s if own is None or own.cooldown_s is None else own.cooldown_s
        since_s = onset - self._latest.get((event.source_id, event.sound), float("-inf"))
        # A clock that was set back makes what was sent before seem yet to come: it counts no more.
        if 0 <= since_s < cooldown_s:
            return False
        while self._sent and not 0 <= onset - self._sent[0] < HOUR_S:
            self._sent.popleft()
        return True


def is_quiet(hours: Sequence[str], at: float, zone: ZoneInfo) -> bool:
    """Whether a time is in one of the quiet hours, as `22:00-07:00`."""
    now = f"{datetime.fromtimestamp(at, zone):%H:%M}"
    for span in hours:
        begin, _, end = span.partition("-")
        if begin <= now < end or (end <= begin and (now >= begin or now < end)):
            return True
    return False
