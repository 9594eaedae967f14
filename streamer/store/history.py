"""The events as they are now: one row each, changed in the transaction that appends their messages."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamer.store.codec import NOT_AS_WRITTEN, event_of
from streamer.store.retention import KeptClip
from streamer.types import SILENCE_DBFS, SoundEvent

MISSED = "missed-"
"""how the names of clips of missed sounds begin; a number follows. Those of events are called as the event"""
CLIP_ID = {"event": "id", "missed": f"'{MISSED}' || seq"}
"""the name of a clip, as SQL, by the table of its row"""
TURN = 1000
"""rows that retention removes at a time"""


class _Column(NamedTuple):
    """How the history keeps a field of `SoundEvent`."""

    field: str
    name: str
    write: Callable[[Any], object] = lambda value: value
    read: Callable[[Any], object] = lambda value: value
    is_fixed: bool = False
    """the start says it, and no later phase changes it"""


def _finite(otherwise: float = 0.0) -> Callable[[float], float]:
    return lambda value: float(value) if math.isfinite(value) else otherwise


def _labels(labels: Mapping[str, float]) -> str:
    scores = {label: round(_finite()(score), 4) for label, score in labels.items()}
    return json.dumps(scores, ensure_ascii=False, separators=(",", ":"))


def optional_bool(value: object) -> bool | None:
    """As SQLite has it, which knows no booleans."""
    return None if value is None else bool(value)


_COLUMNS = (
    _Column("id", "id", is_fixed=True),
    _Column("source_id", "source", is_fixed=True),
    _Column("sound", "sound", is_fixed=True),
    _Column("onset", "onset"),
    _Column("offset", "offset"),
    _Column("heard_at", "seen_at"),
    _Column("peak", "peak", _finite()),
    _Column("level_dbfs", "level_dbfs", _finite(SILENCE_DBFS)),
    _Column("labels", "labels", _labels, json.loads),
    _Column("verified", "verified", read=optional_bool),
    _Column("notify", "notify", read=bool),
    _Column("priority", "priority"),
    _Column("epoch", "epoch", is_fixed=True),
)
"""Every field that the history keeps: written, and read again where a crash has left an event open."""
_NAMES = ", ".join(column.name for column in _COLUMNS)
_CHANGES = ", ".join(f"{column.name} = excluded.{column.name}" for column in _COLUMNS if not column.is_fixed)
_UPSERT = f"""
INSERT INTO event ({_NAMES}, cut, latency_ms, model, rule)
VALUES ({"?, " * len(_COLUMNS)} ?, ?, ?, (SELECT id FROM rule WHERE rule = ?))
ON CONFLICT (id) DO UPDATE SET {_CHANGES}, cut = excluded.cut
WHERE event.offset IS NULL OR (event.cut AND NOT excluded.cut AND excluded.offset IS NOT NULL)
"""  # noqa: S608  constants


@dataclass(frozen=True, slots=True)
class Model:
    """Which model has scored."""

    name: str
    labels: tuple[str, ...]
    describe: str = ""
    """one line for people; models that differ in it, or in their labels, are not the same"""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """of its weights and of heads of taught sounds: nor are those that differ in them"""

    @property
    def fingerprint(self) -> str:
        values = [self.name, self.describe, self.labels, sorted(self.fingerprints.items())]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def add_model(db: sqlite3.Connection, model: Model | None) -> int | None:
    """Its number; None where it is not known."""
    if model is None:
        return None
    values = (model.name, model.fingerprint, json.dumps(model.labels, ensure_ascii=False))
    db.execute("INSERT OR IGNORE INTO model (name, fingerprint, labels) VALUES (?, ?, ?)", values)
    found = db.execute("SELECT id FROM model WHERE fingerprint = ?", (model.fingerprint,)).fetchone()
    return int(found[0])


def record(
    db: sqlite3.Connection, event: SoundEvent, *, rule: str = "", model: int | None = None, cut: bool = False
) -> None:
    """Take one phase. A phase that was taken before changes nothing, nor does one that comes after the end.

    `rule` is JSON: what was in force; `cut`: a crash has ended it, unless its own end comes after all.
    """
    if rule and event.phase == "start":
        db.execute("INSERT OR IGNORE INTO rule (rule) VALUES (?)", (rule,))
    kept = [column.write(getattr(event, column.field)) for column in _COLUMNS]
    latency_ms = round(1000 * max(0.0, event.emitted_at - event.heard_at))
    db.execute(_UPSERT, (*kept, cut, latency_ms, model, rule))


def left_open(db: sqlite3.Connection, *, but: set[str]) -> list[SoundEvent]:
    """Events that have not ended, other than those that go on now. One that makes no sense ends at once."""
    rows = db.execute(f"SELECT {_NAMES} FROM event WHERE offset IS NULL ORDER BY seq").fetchall()  # noqa: S608  constants
    events = []
    for event_id, *values in rows:
        if event_id in but:
            continue
        try:
            kept = zip(_COLUMNS, (event_id, *values), strict=True)
            events.append(
                event_of({"phase": "update"} | {column.field: column.read(value) for column, value in kept})
            )
        except NOT_AS_WRITTEN:
            db.execute("UPDATE event SET offset = onset, cut = 1 WHERE id = ?", (event_id,))
    return events


def expire(db: sqlite3.Connection, *, before: float, most: int, turn: int = TURN) -> int:
    """Remove events that began before a time, or beyond so many, the oldest first; returns how many went.

    At most `turn` at once; what sounds still, and what is pinned, stays.
    """
    (first,) = db.execute("SELECT min(seq) FROM event").fetchone()
    (last,) = db.execute("SELECT max(seq) FROM event").fetchone()
    n_beyond = 0
    if first is not None and last - first >= most:
        n_beyond = db.execute("SELECT count(*) FROM event").fetchone()[0] - most
    gone = [
        event_id
        for event_id, onset in db.execute(
            "SELECT id, onset FROM event WHERE offset IS NOT NULL AND NOT pinned ORDER BY onset, seq LIMIT ?",
            (turn,),
        )
        if onset < before or (n_beyond := n_beyond - 1) >= 0
    ]
    remove(db, gone)
    return len(gone)


def remove(db: sqlite3.Connection, event_ids: Sequence[str]) -> None:
    """Events, and what was said of them."""
    for event_id in event_ids:
        db.execute("DELETE FROM event WHERE id = ?", (event_id,))
        db.execute("DELETE FROM review WHERE event = ?", (event_id,))


def review(
    db: sqlite3.Connection, event_id: str, verdict: str | None, *, sound: str | None, note: str | None
) -> bool:
    """Say what an event was; None takes it back. False where there is no such event."""
    changed = db.execute(
        "UPDATE event SET verdict = ?, verdict_sound = ?, note = ? WHERE id = ?",
        (verdict, sound, note, event_id),
    )
    if not changed.rowcount:
        return False
    db.execute(
        "INSERT INTO review (event, verdict, sound, note, at, reviewer) VALUES (?, ?, ?, ?, ?, 'command')",
        (event_id, verdict, sound, note, time.time()),
    )
    return True


def table_of(clip_id: str) -> str:
    """Where the row of a clip is."""
    return "missed" if clip_id.startswith(MISSED) else "event"


def set_clip(
    db: sqlite3.Connection, clip_id: str, state: str, start: float | None, end: float | None, size: int
) -> bool:
    """What became of a clip: `kept`, with its begin, end and bytes, or why there is none.

    False where its event, or the report of what was missed, is not there.
    """
    changed = db.execute(
        f"UPDATE {table_of(clip_id)} SET clip = ?, clip_start = ?, clip_end = ?, clip_bytes = ? "  # noqa: S608  constants
        f"WHERE {CLIP_ID[table_of(clip_id)]} = ?",
        (state, start, end, size, clip_id),
    )
    return changed.rowcount > 0


def kept_clips(db: sqlite3.Connection) -> list[KeptClip]:
    """Those of events, and those of missed sounds, which somebody has named."""
    rows = [
        *db.execute(
            "SELECT id, sound, coalesce(clip_start, onset), clip_bytes, pinned, verdict FROM event "
            "INDEXED BY event_clip WHERE clip = 'kept'"
        ),
        *db.execute(
            f"SELECT {CLIP_ID['missed']}, sound, coalesce(clip_start, onset), clip_bytes, 0, 'right' "  # noqa: S608  constants
            "FROM missed WHERE clip = 'kept'"
        ),
    ]
    return [
        KeptClip(clip_id, sound, start, size, bool(pinned), verdict)
        for clip_id, sound, start, size, pinned, verdict in rows
    ]


def expire_clips(db: sqlite3.Connection, clip_ids: Sequence[str], state: str = "expired") -> int:
    """These clips are to go; their files may be removed after this. `state` says why: expired, deleted."""
    return sum(
        db.execute(
            f"UPDATE {table_of(clip_id)} SET clip = ?, clip_bytes = 0 "  # noqa: S608  constants
            f"WHERE {CLIP_ID[table_of(clip_id)]} = ? AND clip = 'kept'",
            (state, clip_id),
        ).rowcount
        for clip_id in clip_ids
    )


def pin(db: sqlite3.Connection, event_id: str, pinned: bool, *, most: int) -> bool:
    """Let an event and its clip stay, or go again. False where pinned clips would pass `most` bytes."""
    if pinned:
        (size,) = db.execute(
            "SELECT coalesce(sum(clip_bytes), 0) FROM event WHERE (pinned AND id != ?) OR id = ?",
            (event_id, event_id),
        ).fetchone()
        if size > most:
            return False
    db.execute("UPDATE event SET pinned = ? WHERE id = ?", (pinned, event_id))
    return True


def add_missed(
    db: sqlite3.Connection, source: str, sound: str, onset: float, offset: float, note: str | None
) -> str:
    """A sound that was there, and of which no event was made; returns the name that its clip will have."""
    added = db.execute(
        "INSERT INTO missed (source, sound, onset, offset, note, at) VALUES (?, ?, ?, ?, ?, ?)",
        (source, sound, onset, offset, note, time.time()),
    )
    return f"{MISSED}{added.lastrowid}"


def remove_missed(db: sqlite3.Connection, clip_id: str) -> bool:
    """Take a report back. False where there is none; the file of its clip is the caller's."""
    gone = db.execute(f"DELETE FROM missed WHERE {CLIP_ID['missed']} = ?", (clip_id,))  # noqa: S608  a constant
    return gone.rowcount > 0


def missed_without_clip(db: sqlite3.Connection, since: float) -> list[tuple[str, str, str, float, float]]:
    """What was reported as missed since then: name of its clip, source, sound, onset, offset."""
    query = (
        f"SELECT {CLIP_ID['missed']}, source, sound, onset, offset FROM missed WHERE clip = 'none' AND at > ?"  # noqa: S608  constants
    )
    return [tuple(row) for row in db.execute(query, (since,))]
