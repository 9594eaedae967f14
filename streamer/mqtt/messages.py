"""Payloads from values: published over MQTT, and printed by `streamer detect --format jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from streamer.core.times import utc
from streamer.language import Names
from streamer.types import SILENCE_DBFS, Recurrence, SoundEvent, SourcePhase, SourceState, Stats

DEFAULT_NAMES = Names()
SCHEMA = 1
"""The version of the messages; it grows when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Today:
    """How often a sound, or any sound of a source, began since midnight, local time."""

    count: int = 0
    first: float | None = None
    """seconds since the epoch"""


NOTHING_TODAY = Today()


class Message(NamedTuple):
    """What is handed to the broker."""

    topic: str
    payload: str
    qos: int
    retain: bool
    expiry_s: int | None = None
    """after so long the broker throws it away; MQTT 5 only"""
    message_id: str | None = None
    """a user property, MQTT 5 only"""


NO_PROBLEM = (SourcePhase.LISTENING, SourcePhase.ENDED, SourcePhase.PAUSED)
"""phases that are no problem: a recording that is over, a source that was switched off"""


def event_message(
    event: SoundEvent,
    node: str,
    *,
    origin: float | None = None,
    delayed_s: float = 0.0,
    names: Names = DEFAULT_NAMES,
) -> dict[str, object]:
    """One phase of an event, ready for JSON.

    Times are RFC 3339, or seconds counted from `origin` where that is given. `delayed_s` is how long the
    message waited for the broker.
    """
    return {
        "schema": SCHEMA,
        "id": event.id,
        "node": node,
        "source": event.source_id,
        "epoch": event.epoch,
        "sound": event.sound,
        "source_name": names.source(event.source_id),
        "sound_name": names.sound(event.sound),
        "phase": event.phase,
        **_occurrence(event, origin),
        "score": _score(event.score),
        "verified": event.verified,
        "notify": event.notify,
        "priority": event.priority,
        "emitted_at": _time(event.emitted_at, origin),
        "latency_ms": round(1000 * max(0.0, event.emitted_at - event.heard_at)),
        "delayed_s": round(delayed_s, 1),
    }


def attributes_message(event: SoundEvent | None, today: Today = NOTHING_TODAY) -> dict[str, object]:
    """What explains the state of a sound: its latest event, null before the first one, and its day."""
    if event is None:
        fields = ("id", "onset", "offset", "duration_s", "peak", "labels", "level_dbfs")
        return {"schema": SCHEMA, **dict.fromkeys(fields), **today_message(today)}
    return {"schema": SCHEMA, "id": event.id, **_occurrence(event, None), **today_message(today)}


def any_sound_message(today: Today) -> dict[str, object]:
    """The day of a source."""
    return {"schema": SCHEMA, **today_message(today)}


def today_message(today: Today) -> dict[str, object]:
    first = None if today.first is None else _time(today.first, None)
    return {"count_today": today.count, "first_today": first}


def stats_message(stats: Stats, node: str) -> dict[str, object]:
    """Health and speed of the daemon."""
    return {"schema": SCHEMA, "node": node, "at": _time(stats.at, None), **stats.values}


def level_payload(level_dbfs: float) -> str:
    """A plain number, dBFS."""
    return str(_level(level_dbfs))


def level_dba_payload(level_dba: float) -> str:
    """A plain number, dB(A)."""
    return str(round(float(level_dba), 1) if math.isfinite(level_dba) else SILENCE_DBFS)


def problem_message(state: SourceState) -> dict[str, object]:
    """What explains whether a source has a problem: its phase, and a clause for people where it has one."""
    is_fine = state.phase in NO_PROBLEM and not state.problem
    return {
        "schema": SCHEMA,
        "phase": state.phase,
        "reason": None if is_fine else state.problem or state.reason,
    }


def overdue_message(found: Recurrence) -> dict[str, object]:
    """What explains whether a sound is overdue. In hours: each change is a row in the database of a home."""
    return {
        "schema": SCHEMA,
        "since": _time(found.since, None),
        "heard": found.was_heard,
        "listened_h": int(found.listened_s // 3600),
        "every_h": round(found.every_s / 3600, 2),
        "note": found.note or None,
    }


def encode(message: Mapping[str, object]) -> str:
    """One line of JSON. Raises ValueError rather than write NaN or infinity, which JSON does not know."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _occurrence(event: SoundEvent, origin: float | None) -> dict[str, object]:
    """When it was, and how strong: what an event and the attributes of a sound have in common."""
    return {
        "onset": _time(event.onset, origin),
        "offset": None if event.offset is None else _time(event.offset, origin),
        "duration_s": None if event.offset is None else round(max(0.0, event.offset - event.onset), 3),
        "peak": _score(event.peak),
        "labels": {label: _score(score) for label, score in event.labels.items()},
        "level_dbfs": _level(event.level_dbfs),
    }


def _time(at: float, origin: float | None) -> str | float:
    if origin is not None:
        return round(at - origin, 3)
    return utc(at)


def _score(value: float) -> float:
    return round(min(1.0, max(0.0, float(value))), 4) if math.isfinite(value) else 0.0


def _level(value: float) -> float:
    return round(max(SILENCE_DBFS, float(value)), 1) if math.isfinite(value) else SILENCE_DBFS
