"""Events for other programs: fields for JSON, tables, label tracks. The commands and the page write the same.

The names of the fields are those of MQTT.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

from streamer.core.times import utc
from streamer.store.query import Event

COLUMNS = (
    *("onset", "offset", "source", "sound", "peak", "level_dbfs", "priority", "verdict", "verdict_sound"),
    *("note", "clip", "clip_start", "model", "id"),
)
"""of a table"""


def event_fields(event: Event) -> dict[str, Any]:
    """All that is known of an event, plain values; times are RFC 3339, UTC."""
    return {
        "id": event.id,
        "source": event.source,
        "sound": event.sound,
        "onset": utc(event.onset),
        "offset": _utc(event.offset),
        "duration_s": None if event.offset is None else round(event.offset - event.onset, 3),
        "seen_at": utc(event.seen_at),
        "is_cut": event.is_cut,
        "peak": round(event.peak, 4),
        "level_dbfs": round(event.level_dbfs, 1),
        "labels": {label: round(score, 4) for label, score in event.labels.items()},
        "verified": event.verified,
        "notify": event.notify,
        "priority": event.priority,
        "latency_ms": event.latency_ms,
        "epoch": event.epoch,
        "model": event.model,
        "rule": event.rule,
        "clip": event.clip,
        "clip_start": _utc(event.clip_start),
        "clip_end": _utc(event.clip_end),
        "clip_bytes": event.clip_bytes,
        "pinned": event.pinned,
        "verdict": event.verdict,
        "verdict_sound": event.verdict_sound,
        "note": event.note,
    }


def as_lines(events: Iterable[Event]) -> Iterator[str]:
    """A line of JSON an event."""
    for event in events:
        yield json.dumps(event_fields(event), ensure_ascii=False) + "\n"


def as_table(events: Iterable[Event]) -> Iterator[str]:
    """Lines of CSV, the first with the names of the columns."""
    lines = _Lines()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(COLUMNS)
    yield lines.line
    for event in events:
        fields = event_fields(event)
        rows.writerow([_cell(fields[column]) for column in COLUMNS])
        yield lines.line


def as_labels(events: Iterable[Event]) -> Iterator[str]:
    """A label track for Audacity, the oldest first.

    In seconds from the first event on: https://manual.audacityteam.org/man/importing_and_exporting_labels.html
    """
    ordered = sorted(events, key=lambda event: event.onset)
    for event in ordered:
        onset = event.onset - ordered[0].onset
        offset = onset if event.offset is None else event.offset - ordered[0].onset
        yield f"{onset:.3f}\t{offset:.3f}\t{event.sound}\n"


class _Lines:
    """What the writer of CSV writes to: it holds the latest line."""

    line = ""

    def write(self, line: str) -> None:
        self.line = line


def _utc(at: float | None) -> str | None:
    return None if at is None else utc(at)


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
