"""Questions to the history and the log: read only, while the daemon runs and while it does not."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from streamer.errors import InputError, StreamerError
from streamer.store.codec import NOT_AS_WRITTEN, decode_event
from streamer.store.cursors import read_progress
from streamer.store.database import aside_of, back_up, check, text_of
from streamer.store.history import CLIP_ID, optional_bool, table_of
from streamer.store.layouts import CURSORS, FILE, LAYOUTS, QUARTER_S
from streamer.types import SoundEvent

BUSY_S = 5.0
SCAN = 1000
"""rows that one page looks at: whatever is asked for, it is answered in milliseconds"""

Verdict: TypeAlias = Literal["right", "wrong"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted; all that is given must hold."""

    since: float | None = None
    until: float | None = None
    """not itself"""
    source: str | None = None
    sound: str | None = None
    verdict: Literal["right", "wrong", "none"] | None = None
    min_peak: float | None = None
    """the lowest peak; what was reported as missed has none"""
    has_clip: bool = False
    """only those whose clip is kept"""


class Position(NamedTuple):
    """Of an event in the order of time."""

    onset: float
    seq: int


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it is now."""

    seq: int
    id: str
    source: str
    sound: str
    onset: float
    offset: float | None
    """None while it goes on"""
    seen_at: float
    """end of the window that led to the latest message"""
    is_cut: bool
    """a crash has ended it, and its true end is not known"""
    peak: float
    level_dbfs: float
    labels: dict[str, float]
    verified: bool | None
    notify: bool
    priority: str
    latency_ms: int
    epoch: int | None
    """of the process that detected it"""
    model: str | None
    rule: dict[str, Any] | None
    """what was in force when it began"""
    clip: str
    """`kept`, `none`, or why there is none: speech, full, failed, expired, deleted"""
    clip_start: float | None
    """when the clip begins; the event is at `onset - clip_start` in it"""
    clip_end: float | None
    clip_bytes: int
    pinned: bool
    """it stays, whatever its age"""
    verdict: Verdict | None
    verdict_sound: str | None
    """what it was instead"""
    note: str | None

    @property
    def position(self) -> Position:
        return Position(self.onset, self.seq)


class Page(NamedTuple):
    """Some events, newest first."""

    events: list[Event]
    next: Position | None
    """where the next page begins; a page may be short, or empty, and not be the last"""


@dataclass(frozen=True, slots=True)
class Review:
    """What somebody said of an event."""

    verdict: Verdict | None
    sound: str | None
    note: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Missed:
    """A sound of which no event was made."""

    clip_id: str
    source: str
    sound: str
    onset: float
    offset: float
    note: str | None
    clip: str
    """as an event's"""
    clip_start: float | None


@dataclass(slots=True)
class Hour:
    """What an hour of one source had."""

    start: float
    source: str
    listened_s: float = 0.0
    sounds: dict[str, tuple[int, float]] = field(default_factory=dict)
    """by sound: events that began in it, and how many seconds they lasted together"""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that a consumer's other side did not want."""

    at: float
    consumer: str
    reason: str
    event: SoundEvent


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in the log."""

    n_events: int
    """in the history; a little too high where some were deleted"""
    first: float | None
    last: float | None
    """onsets"""
    bytes: int
    """of the file"""
    clips_bytes: int
    """of all clips together"""
    waiting: dict[str, int]
    """messages, by consumer"""
    oldest_s: float | None
    """how long the oldest of them has waited"""
    refused: list[Refused] = field(default_factory=list)
    """newest first"""
    set_aside: list[str] = field(default_factory=list)
    """names of damaged files, oldest first"""


_SQL = {
    "seq": "event.seq",
    "id": "event.id",
    "is_cut": "cut",
    "labels": "event.labels",
    "model": "model.name",
    "rule": "rule.rule",
}
"""what a field of `Event` is in the database, where it has another name there or several tables have it"""
_READ: dict[str, Callable[[Any], Any]] = {
    "is_cut": bool,
    "labels": json.loads,
    "verified": optional_bool,
    "notify": bool,
    "rule": lambda value: None if value is None else json.loads(value),
    "pinned": bool,
}
"""how it is read, where it is not as SQLite has it"""
_FIELDS = [field.name for field in fields(Event)]
_COLUMNS = ", ".join(_SQL.get(name, name) for name in _FIELDS)
_JOINED = "LEFT JOIN model ON model.id = event.model LEFT JOIN rule ON rule.id = event.rule"


@contextmanager
def reading(directory: Path) -> Iterator[Reader]:
    """Raises InputError where there is nothing to read, or where it cannot be read."""
    path = _file(directory)
    try:
        with closing(_connect(path)) as db:
            check_layout(db, path)
            yield Reader(db, path)
    except (sqlite3.Error, *NOT_AS_WRITTEN) as error:
        raise InputError(f"{path}: cannot be read: {error}; `streamer store check` says more") from None


def check_store(directory: Path) -> None:
    """Read all of it. Raises InputError where there is none, StreamerError where it is damaged."""
    path = _file(directory)
    try:
        with closing(_connect(path)) as db:
            check(db)
    except sqlite3.Error as error:
        raise StreamerError(
            f"{path}: damaged: {error}; `streamer run` sets it aside and starts a new one"
        ) from None


def back_up_store(directory: Path, to: Path) -> int:
    """Copy it as it is at one moment; returns the bytes of the copy. Raises InputError, StreamerError."""
    path = _file(directory)
    if to.exists():
        raise InputError(f"{to}: is there already: name another file")
    try:
        with closing(_connect(path)) as db:
            back_up(db, to)
    except sqlite3.Error as error:
        raise StreamerError(f"{to}: cannot be written: {error}") from None
    return to.stat().st_size


def _file(directory: Path) -> Path:
    path = directory / FILE
    if not path.is_file():
        raise InputError(f"{directory}: there is no history; `streamer run` makes it")
    return path


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    db.text_factory = text_of
    return db


def check_layout(db: sqlite3.Connection, path: Path) -> None:
    """Raises InputError."""
    (layout,) = db.execute("PRAGMA user_version").fetchone()
    if layout > len(LAYOUTS):
        raise InputError(f"{path}: it was written by a newer version of the program (layout {layout})")
    if layout < len(LAYOUTS):
        raise InputError(f"{path}: it is of layout {layout}; `streamer run` brings it up to date")


class Reader:
    """One connection, read only. Its methods raise what `reading` turns into InputError."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def page(self, wanted: Filter = Filter(), *, after: Position | None = None, n: int = 50) -> Page:
        """Newest first, from behind a position. It looks at `SCAN` events at most."""
        index, where, values = "event_time", list[str](), list[object]()
        if wanted.verdict not in (None, "none"):  # few are reviewed
            index, where, values = "event_judged", ["verdict = ?"], [wanted.verdict]
        elif wanted.sound is not None:
            index, where, values = "event_sound", ["sound = ?"], [wanted.sound]
        elif wanted.source is not None:
            index, where, values = "event_source", ["source = ?"], [wanted.source]
        if wanted.until is not None:
            before = Position(wanted.until, -1)  # of a moment that is not wanted itself
            after = before if after is None else min(after, before)
        if after is not None:
            where.append("(onset, seq) < (?, ?)")
            values += after
        candidates = self._db.execute(
            f"SELECT onset, seq, source, sound, verdict, peak, clip FROM event INDEXED BY {index} "  # noqa: S608  constants
            f"WHERE {' AND '.join(where) or 'true'} ORDER BY onset DESC, seq DESC LIMIT ?",
            (*values, SCAN),
        )
        chosen: list[Position] = []
        last, is_more = after, False
        with closing(candidates):
            for n_seen, (onset, seq, source, sound, verdict, peak, clip) in enumerate(candidates, 1):
                if wanted.since is not None and onset < wanted.since:
                    is_more = False
                    break
                last, is_more = Position(onset, seq), n_seen == SCAN
                if (
                    wanted.source in (None, source)
                    and wanted.sound in (None, sound)
                    and wanted.verdict in (None, verdict or "none")
                    and (wanted.min_peak is None or peak >= wanted.min_peak)
                    and (clip == "kept" or not wanted.has_clip)
                ):
                    chosen.append(last)
                    if len(chosen) == n:
                        is_more = True
                        break
        events = [event for position in chosen if (event := self._by("event.seq", position.seq)) is not None]
        return Page(events, last if is_more else None)

    def events(self, wanted: Filter = Filter(), *, n: int | None = None) -> Iterator[Event]:
        """All of them, newest first, `n` at most, page by page."""
        after, left = None, n
        while left is None or left > 0:
            page = self.page(wanted, after=after, n=500 if left is None else min(500, left))
            yield from page.events
            left = None if left is None else left - len(page.events)
            after = page.next
            if after is None:
                return

    def hours(
        self, since: float, until: float, zone: tzinfo | None = None, *, source: str | None = None
    ) -> list[Hour]:
        """The hours between two times as a zone has them (local time where that is None), oldest first.

        The times are those of quarters, with which hours begin in every zone. An hour is there where it was
        listened, or where events began; those judged wrong are left out.
        """
        of_source, values = ("AND source = ?", (source,)) if source is not None else ("", ())
        found: dict[tuple[float, str], Hour] = {}

        starts: dict[int, float] = {}

        def hour(quarter: int, source: str) -> Hour:
            if (start := starts.get(quarter)) is None:
                local = datetime.fromtimestamp(quarter * QUARTER_S, UTC).astimezone(zone)
                start = starts[quarter] = float(quarter * QUARTER_S - 60 * local.minute - local.second)
            if (one := found.get((start, source))) is None:
                one = found[start, source] = Hour(start, source)
            return one

        for quarter, name, seconds in self._db.execute(
            f"SELECT * FROM listened WHERE quarter >= ? AND quarter < ? {of_source}",  # noqa: S608  constants
            (since // QUARTER_S, until / QUARTER_S, *values),
        ):
            hour(quarter, name).listened_s += seconds
        for quarter, name, sound, n, seconds in self._db.execute(
            f"SELECT * FROM counted WHERE quarter >= ? AND quarter < ? AND n > 0 {of_source}",  # noqa: S608  constants
            (since // QUARTER_S, until / QUARTER_S, *values),
        ):
            sounds = hour(quarter, name).sounds
            before = sounds.get(sound, (0, 0.0))
            sounds[sound] = (before[0] + n, before[1] + seconds)
        return [found[key] for key in sorted(found)]

    def event(self, event_id: str) -> Event:
        """By its id, or by the beginning of it where that is enough. Raises InputError."""
        if (event := self._by("event.id", event_id)) is not None:
            return event
        upper = f"{event_id}\U0010ffff"
        ids = self._db.execute(
            "SELECT id FROM event WHERE id > ? AND id < ? LIMIT 2", (event_id, upper)
        ).fetchall()
        if len(ids) == 1 and (event := self._by("event.id", ids[0][0])) is not None:
            return event
        which = "more than one event begins" if ids else "there is no event"
        raise InputError(f"{which} with {event_id!r}: see `streamer events`")

    def reviews(self, event_id: str) -> list[Review]:
        """What was said of an event, oldest first."""
        query = "SELECT verdict, sound, note, at FROM review WHERE event = ? ORDER BY seq"
        return [Review(*row) for row in self._db.execute(query, (event_id,))]

    def missed(self, wanted: Filter = Filter()) -> list[Missed]:
        """Newest first."""
        if wanted.min_peak is not None:
            return []
        query = (
            f"SELECT {CLIP_ID['missed']}, source, sound, onset, offset, note, clip, clip_start FROM missed "  # noqa: S608  constants
            "WHERE onset >= ? AND onset < ?"
        )
        values = (
            float("-inf") if wanted.since is None else wanted.since,
            float("inf") if wanted.until is None else wanted.until,
        )
        return [
            one
            for row in self._db.execute(f"{query} ORDER BY onset DESC, seq DESC", values)
            if wanted.source in (None, (one := Missed(*row)).source)
            and wanted.sound in (None, one.sound)
            and (one.clip == "kept" or not wanted.has_clip)
        ]

    def clip(self, clip_id: str) -> tuple[float, float]:
        """Begin and end of a clip that is kept, of an event or of a missed sound. Raises InputError."""
        table = table_of(clip_id)
        kept = f"SELECT clip_start, clip_end FROM {table} WHERE {CLIP_ID[table]} = ? AND clip = 'kept'"  # noqa: S608  constants
        row = self._db.execute(kept, (clip_id,)).fetchone()
        if row is None or None in row:
            raise InputError(f"there is no clip of {clip_id}")
        return float(row[0]), float(row[1])

    def last_heard(self, source: str, sound: str) -> float | None:
        """When a sound was heard last: also as was reported as missed, but not what was judged wrong."""
        latest = self._db.execute(
            "SELECT coalesce(offset, seen_at) FROM event INDEXED BY event_sound "
            "WHERE sound = ? AND source = ? AND verdict IS NOT 'wrong' ORDER BY onset DESC LIMIT 1",
            (sound, source),
        ).fetchone()
        (missed,) = self._db.execute(
            "SELECT max(offset) FROM missed WHERE sound = ? AND source = ?", (sound, source)
        ).fetchone()
        found = [float(at) for at in (latest and latest[0], missed) if at is not None]
        return max(found, default=None)

    def listened_s(self, source: str, since: float, until: float) -> float:
        """Seconds for which a source was listened to between two times."""
        rows = self._db.execute(
            "SELECT quarter, seconds FROM listened WHERE source = ? AND quarter >= ? AND quarter < ?",
            (source, since // QUARTER_S, until / QUARTER_S),
        )
        # Of the quarter in which it begins, what came before may be a part of the seconds.
        return float(sum(min(seconds, (quarter + 1) * QUARTER_S - since) for quarter, seconds in rows))

    def contents(self) -> Contents:
        """What there is, and what waits."""
        # One at a time SQLite reads each from the end of an index; together it would read all rows.
        first_seq, last_seq, first, last = (
            self._db.execute(f"SELECT {end} FROM event").fetchone()[0]  # noqa: S608  constants
            for end in ("min(seq)", "max(seq)", "min(onset)", "max(onset)")
        )
        cursors = self._cursors()
        waiting = {
            name: int(self._db.execute("SELECT count(*) FROM message WHERE seq > ?", (seq,)).fetchone()[0])
            for name, seq in cursors.items()
        }
        (oldest,) = self._db.execute(
            "SELECT min(created) FROM message WHERE seq > ?", (min(cursors.values(), default=1 << 62),)
        ).fetchone()
        refused = self._db.execute("SELECT at, consumer, reason, event FROM refused ORDER BY id DESC")
        return Contents(
            n_events=0 if first_seq is None else last_seq - first_seq + 1,
            first=first,
            last=last,
            bytes=self._path.stat().st_size,
            clips_bytes=sum(self._clips_bytes(table) for table in CLIP_ID),
            waiting=waiting,
            oldest_s=None if oldest is None else max(0.0, time.time() - oldest),
            refused=[Refused(at, name, reason, decode_event(text)) for at, name, reason, text in refused],
            set_aside=[file.name for file in aside_of(self._path)],
        )

    def _clips_bytes(self, table: str) -> int:
        kept = f"SELECT coalesce(sum(clip_bytes), 0) FROM {table} WHERE clip = 'kept'"  # noqa: S608  a constant
        return int(self._db.execute(kept).fetchone()[0])

    def _cursors(self) -> dict[str, int]:
        """As the file says, which is written more often, else as the database does."""
        cursors = {str(name): int(seq) for name, seq in self._db.execute("SELECT * FROM cursor")}
        (install,) = self._db.execute("SELECT id FROM install").fetchone()
        progress = read_progress(self._path.with_name(CURSORS))
        if progress.install == install:
            for name, seq in progress.delivered.items():
                cursors[name] = max(seq, cursors.get(name, 0))
        return cursors

    def _by(self, column: str, value: object) -> Event | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM event {_JOINED} WHERE {column} = ?",  # noqa: S608  constants
            (value,),
        ).fetchone()
        return None if row is None else _event(row)


def _event(row: tuple[Any, ...]) -> Event:
    values = dict(zip(_FIELDS, row, strict=True))
    return Event(**values | {name: read(values[name]) for name, read in _READ.items()})
