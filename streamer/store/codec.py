"""Events as text and back. Pure.

What was written by an older version of the program has fewer fields, by a newer one more: neither loses it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime
from typing import Any, get_args

from streamer.types import SILENCE_DBFS, Phase, Priority, SoundEvent

NOT_AS_WRITTEN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""what comes of reading values that a disk has changed"""

_NAMES = tuple(field.name for field in fields(SoundEvent))
_REQUIRED = [
    field.name
    for field in fields(SoundEvent)
    if field.default is MISSING and field.default_factory is MISSING
]


def encode_event(event: SoundEvent) -> str:
    """One line of JSON. A score or level that is no number becomes 0 or silence, which JSON knows."""
    values: dict[str, Any] = {}
    for name in _NAMES:
        value = getattr(event, name)
        values[name] = 0.0 if isinstance(value, float) and not math.isfinite(value) else value
    values["labels"] = {
        label: score if math.isfinite(score) else 0.0 for label, score in event.labels.items()
    }
    if not math.isfinite(event.level_dbfs):
        values["level_dbfs"] = SILENCE_DBFS
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=float)


def decode_event(text: str | bytes) -> SoundEvent:
    """Raises one of NOT_AS_WRITTEN where it is no event."""
    return event_of(json.loads(text))


def event_of(values: Mapping[str, Any]) -> SoundEvent:
    """An event from what is known of it. Raises one of NOT_AS_WRITTEN where that is not enough."""
    onset = values["onset"]
    unknown: dict[str, Any] = {
        "offset": None,
        "peak": 0.0,
        "score": 0.0,
        "labels": {},
        "level_dbfs": SILENCE_DBFS,
        "heard_at": onset,
        "emitted_at": values.get("heard_at", onset),
    }
    known = {name: value for name, value in values.items() if name in _NAMES}
    return checked(SoundEvent(**{name: unknown[name] for name in _REQUIRED if name in unknown} | known))


def event_of_message(message: Mapping[str, Any]) -> SoundEvent:
    """The event of which an MQTT message tells. Raises one of NOT_AS_WRITTEN where it tells of none."""
    offset = message["offset"]
    emitted_at = _seconds(message["emitted_at"])
    return event_of(
        {
            **message,
            "source_id": message["source"],
            "onset": _seconds(message["onset"]),
            "offset": None if offset is None else _seconds(offset),
            "emitted_at": emitted_at,
            "heard_at": emitted_at - float(message["latency_ms"]) / 1000,
        }
    )


def ended(event: SoundEvent, at: float) -> SoundEvent:
    """The end of an event that a crash has left open: it is when the event was heard last."""
    return replace(event, phase="end", offset=max(event.onset, event.heard_at), emitted_at=at)


def checked(event: SoundEvent) -> SoundEvent:
    """Raises one of NOT_AS_WRITTEN where its values are not of their kinds."""
    if not all(isinstance(text, str) and text for text in (event.id, event.source_id, event.sound)):
        raise TypeError(event)
    if event.phase not in get_args(Phase) or event.priority not in get_args(Priority):
        raise ValueError(event.phase)
    if event.epoch is not None and type(event.epoch) is not int:
        raise TypeError(event.epoch)
    for label, score in event.labels.items():
        if not isinstance(label, str) or not math.isfinite(score):
            raise TypeError(label)
    times = (event.onset, event.emitted_at, event.heard_at, *([] if event.offset is None else [event.offset]))
    for time in times:
        datetime.fromtimestamp(time, UTC)  # raises where no clock shows it
    if not all(math.isfinite(value) for value in (event.peak, event.score, event.level_dbfs)):
        raise ValueError(event.peak)
    if event.phase == "end" and event.offset is None:
        raise ValueError(event.offset)
    return event


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
