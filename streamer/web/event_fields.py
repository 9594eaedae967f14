"""An event as the API shows it, and why it is there, in sentences."""

from __future__ import annotations

from typing import Any

from streamer.language import Names
from streamer.store.query import Event
from streamer.web.request import utc


def event_fields(event: Event) -> dict[str, Any]:
    """An event as the API shows it; the names are those of MQTT."""
    return {
        "id": event.id,
        "source": event.source,
        "sound": event.sound,
        "onset": utc(event.onset),
        "offset": None if event.offset is None else utc(event.offset),
        "duration_s": None if event.offset is None else round(event.offset - event.onset, 3),
        "peak": round(event.peak, 4),
        "level_dbfs": round(event.level_dbfs, 1),
        "labels": {label: round(score, 4) for label, score in event.labels.items()},
        "verified": event.verified,
        "notify": event.notify,
        "priority": event.priority,
        "rule": event.rule,
        "clip": event.clip,
        "clip_start": None if event.clip_start is None else utc(event.clip_start),
        "pinned": event.pinned,
        "verdict": event.verdict,
        "verdict_sound": event.verdict_sound,
        "note": event.note,
        "is_cut": event.is_cut,
    }


def explain(event: Event, names: Names) -> list[str]:
    """Why the event is there, as sentences, by the rules that were in force when it started."""
    rule = event.rule or {}
    lines = []
    if "on" in rule and rule.get("labels"):
        lines.append(
            f"Its score reached {event.peak:.2f}; it starts at {rule['on']:.2f} "
            f"and ends below {rule['off']:.2f}."
        )
    if rule.get("above_background_db"):
        lines.append(f"It was more than {rule['above_background_db']:g} dB above the background of the room.")
    if rule.get("confirm", 1) > 1:
        lines.append(f"{rule['confirm']} of {rule['confirm_of']} hops agreed.")
    if rule.get("min_duration_s"):
        lines.append(f"It was longer than {rule['min_duration_s']:g} s.")
    if rule.get("unless"):
        lines.append(f"Nothing of {', '.join(names.sound(other) for other in rule['unless'])} was stronger.")
    if event.verified is not None:
        found = "was found" if event.verified else "was not found"
        lines.append(f"The cadence of an alarm {found} in the signal.")
    if not event.notify:
        lines.append("The sound was cooling down, so it did not notify.")
    if event.is_cut:
        lines.append("The program ended in the middle of it; its true end is not known.")
    return lines
