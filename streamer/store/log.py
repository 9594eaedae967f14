"""The event log: messages in order, how far each consumer has got, and the events as they are now.

It blocks, and lives in one thread. A message and the row of its event are committed together before anybody
is told. That a consumer has a message moves its cursor and deletes nothing. Whatever the disk does, events go
on: what cannot be written waits in memory until it can, up to a bound, and what is lost is counted.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from streamer.metrics import BROKER, Metrics
from streamer.store import history
from streamer.store.codec import NOT_AS_WRITTEN, checked, decode_event, encode_event, ended
from streamer.store.cursors import CursorFile, Progress
from streamer.store.database import (
    PIECE,
    ROOM,
    SLACK,
    DamagedError,
    Database,
    NewerError,
    Room,
    is_damage,
    is_full,
    set_aside,
)
from streamer.store.history import Model
from streamer.store.layouts import CURSORS, FILE, LAYOUTS, QUARTER_S
from streamer.store.retention import BOUNDS, Bounds, expired
from streamer.store.takeover import take_over
from streamer.types import SoundEvent

log = logging.getLogger(__name__)

BATCH = 250
"""messages of a transaction: it must fit into the room of the log"""
UNSET_CLOCK = 1_767_225_600.0
"""2026-01-01: a message from before was written while the machine's clock was not set yet"""
TURNS = 5
"""of retention, each time that it is looked after: events that come meanwhile wait"""
KEEP_REFUSED = 1_000
LOG_PACE_S = 300.0
RETRY_S, FEW = 1.0, 100
"""the pace at which a disk that refused is asked again, where more messages than few are concerned"""
EXPIRE_S = 600.0
"""how often old events are looked for"""
LAST_SEQ = 1 << 62
"""near the end of the integers that SQLite has"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Keep:
    """How long events are kept."""

    days: float = 400.0
    most: int = 1_000_000


KEEP = Keep()


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event on its way into the log."""

    event: SoundEvent
    rule: str = ""
    """JSON: what was in force; asked for at the start of an event"""
    is_cut: bool = False
    """a crash has ended it"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as a consumer gets it."""

    seq: int
    """grows from message to message"""
    message_id: str
    """the same whenever it is sent: an installation, a dash, a number that grows with the order"""
    event: SoundEvent
    created_at: float
    """monotonic"""
    keep_s: float
    """how long it is kept from then on"""

    @property
    def age_s(self) -> float:
        return max(0.0, time.monotonic() - self.created_at)

    @property
    def expiry_s(self) -> float:
        """After so long nobody wants it any more."""
        return self.keep_s - self.age_s


@dataclass(slots=True)
class _Cursor:
    """How far one consumer has got."""

    delivered: int = 0
    """it has all messages to this number"""
    handed: int = 0
    """it was given all to this number, and may still be at them"""
    depth: int = 0
    """messages that it does not have"""
    early: int = 0
    """it has also those to this number that came after the file's: the file could not be read then"""


@dataclass(slots=True)
class _Row:
    seq: int
    created: float
    message_id: str
    recorded: Recorded


class Log:
    """The event log on disk; in memory, which the log of the daemon says, while the disk does not take it."""

    def __init__(
        self,
        directory: Path | None,
        metrics: Metrics,
        *,
        consumers: Sequence[str] = (),
        model: Model | None = None,
        bounds: Bounds = BOUNDS,
        keep: Keep = KEEP,
        room: Room = ROOM,
    ) -> None:
        """Without a directory the log is in memory alone. `consumers` are those that have a cursor.

        A consumer that is new begins with the next message, and one that is not named is forgotten.
        """
        self._directory = directory
        self._metrics = metrics
        self._model = model
        self._model_id: int | None = None
        self._bounds = bounds
        self._keep = keep
        self._room = room
        self._database: Database | None = None
        self._cursor_file: CursorFile | None = None
        # The wall clock may jump; ages within the life of a process are measured by one that does not.
        self._wall = time.time() - time.monotonic()
        self._install = ""
        self._life = uuid.uuid4().hex[:16]
        """stands for the installation where messages are not on disk: their numbers may be given again"""
        # So high because a file that cannot be read yet has older messages, with lower numbers.
        self._next = int(1000 * time.time())
        self._has_numbered = False
        self._found = 0
        """the latest message that was on disk when the file was opened, after others had been numbered"""
        self._size = 0
        """bytes of the messages on disk"""
        self._newest = 0
        """the latest message on disk"""
        self._cursors = {name: _Cursor() for name in consumers}
        self._unwritten: deque[_Row] = deque()
        """newer than any message on disk"""
        self._going_on: set[str] = set()
        """events that have begun in this life, and have not ended"""
        self._left_open: list[SoundEvent] = []
        self._damaged: set[int] = set()
        self._dropped: dict[str, int] = {}
        """by consumer: messages that it will not get, and that were not logged yet"""
        self._dropped_at = -math.inf
        self._retry_at = self._logged_at = self._expired_at = self._shortened_at = -math.inf
        self._is_off = False
        """the file is a newer version's, and is left alone"""
        self._version = 0

    def append(self, recorded: Sequence[Recorded]) -> list[SoundEvent]:
        """When this returns they are on disk, all or none; else in memory, as the metrics say.

        Without events it opens the file, and does what could not be done before. Returns what may be
        emitted now: the events, and before them the ends of those that a crash had left open.
        """
        self._attempt(lambda _: True)
        ends = [Recorded(ended(event, time.time()), is_cut=True) for event in self._left_open]
        self._left_open = []
        on_disk = self._database is not None and not self._unwritten
        owner = self._install if on_disk else self._life
        for one in [*ends, *recorded]:
            self._unwritten.append(_Row(self._next, self._now(), f"{owner}-{self._next}", one))
            self._next += 1
            self._has_numbered = True
            if one.event.phase == "end":
                self._going_on.discard(one.event.id)
            else:
                self._going_on.add(one.event.id)
        for cursor in self._cursors.values():
            cursor.depth += len(ends) + len(recorded)
        while self._unwritten and self._change(self._write, len(self._unwritten)):
            pass
        if self._unwritten and on_disk:  # they are all that is in memory
            for row in self._unwritten:
                row.message_id = f"{self._life}-{row.seq}"
        self._bound_memory()
        self._count()
        return [one.event for one in [*ends, *recorded]]

    def read(self, consumer: str, n: int, *, again: bool = False) -> list[Entry]:
        """The messages after those that were read before, at most `n`; `again`: after those it has."""
        cursor = self._cursors[consumer]
        if again or cursor.handed < cursor.delivered:
            cursor.handed = cursor.delivered
        is_first = cursor.handed == cursor.delivered
        entries = self._attempt(lambda database: self._stored(database, consumer, cursor, n))
        if entries is None:
            if self._newest > cursor.handed:
                return []  # those on disk come first, and cannot be read now
            entries = []
        if len(entries) < n:
            waiting = (row for row in self._unwritten if row.seq > max(cursor.handed, cursor.early))
            entries += [self._entry(row, row.recorded.event) for row in islice(waiting, n - len(entries))]
        if entries:
            cursor.handed = entries[-1].seq
        if is_first and consumer == BROKER:
            self._metrics.outbox.oldest_at = entries[0].created_at if entries else None
        return entries

    def deliver(self, delivered: Mapping[str, tuple[int, int]]) -> None:
        """By consumer: it has all messages to this number, so many more than before."""
        for consumer, (seq, n) in delivered.items():
            cursor = self._cursors[consumer]
            cursor.depth = max(0, cursor.depth - n)
            if cursor.delivered < self._found < seq:
                cursor.early = max(cursor.early, seq)
            else:
                cursor.delivered = max(cursor.delivered, seq)
                if cursor.delivered >= self._found:
                    cursor.delivered, cursor.early = max(cursor.delivered, cursor.early), 0
        self._save_cursors()
        self._bound_memory()
        self._count()

    def refuse(self, consumer: str, entry: Entry, reason: str) -> None:
        """The consumer's other side does not want it: keep it with the reason, to be looked at."""
        self._attempt(lambda database: self._refuse(database, consumer, entry, reason))

    def change_history(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Change rows of the history, in one transaction; None where the disk refuses."""
        return self._attempt(lambda database: database.change(work))

    def tend(self) -> None:
        """From time to time, before an `append`: notice a file that is gone, keep bounds and room."""
        if self._database is not None and self._database.is_gone:
            self._leave_what_is_gone(self._database)
        self._attempt(self._tidy)
        self._count()

    def close(self) -> None:
        """Give the files back. What waits in memory is written if that is possible, else it is lost."""
        self._retry_at = -math.inf
        self.append(())
        self._save_cursors(is_clean=self._database is not None and not self._unwritten)
        if self._unwritten and self._directory is not None:
            self._metrics.drop("history", len(self._unwritten))
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._cursor_file is not None:
            self._cursor_file.close()
            self._cursor_file = None

    def _now(self) -> float:
        return self._wall + time.monotonic()

    # Attempts at the disk

    def _change(self, work: Callable[[Database], bool], n: int) -> bool:
        """Do it, unless the disk has just refused a change and this one is large."""
        now = time.monotonic()
        if now < self._retry_at and n > FEW:
            return False
        if self._attempt(work):
            return True
        self._retry_at = now + RETRY_S
        return False

    def _attempt(self, work: Callable[[Database], T]) -> T | None:
        """Do it, or say why not. A full disk uses the room that was kept; a damaged file is set aside."""
        if self._directory is None or self._is_off:
            return None
        n_damaged = 0
        while n_damaged < 3:
            try:
                if self._database is None:
                    self._open(self._directory)
                assert self._database is not None  # noqa: S101  for the reader and mypy
                return work(self._database)
            except NewerError as error:
                self._is_off = True
                self._log_failure(str(error))
                return None
            except sqlite3.Error as error:
                if is_damage(error):
                    n_damaged += 1
                    if not self._set_aside(self._directory / FILE, error):
                        return None
                elif not is_full(error) or self._database is None or not self._make_room(self._database):
                    self._log_failure(str(error))
                    return None
        return None

    def _make_room(self, database: Database) -> bool:
        """Let the file grow; on a full disk messages that every consumer has go, then the reserve is used.

        When that is used up, but for a piece, the oldest events of the history make room for new ones; then
        the last piece is used.
        """
        try:
            return (
                database.extend()
                or self._trim(database, replace(self._bounds, behind=0)) > 0
                or database.use_reserve(but=1)
                or self._shorten_history(database)
                or database.use_reserve()
            )
        except sqlite3.Error:
            return False

    def _open(self, directory: Path) -> None:
        self._open_cursor_file(directory / CURSORS)
        progress = Progress() if self._cursor_file is None else self._cursor_file.progress
        database = Database(directory / FILE, LAYOUTS, room=self._room, is_clean=progress.is_clean)
        try:
            self._learn_where_full(database, progress)
        except NOT_AS_WRITTEN as error:
            database.close()
            raise DamagedError("its values are not those of an event log") from error
        except BaseException:
            database.close()
            raise
        self._database = database
        self._save_cursors()

    def _open_cursor_file(self, path: Path) -> None:
        if self._cursor_file is None:
            try:
                self._cursor_file = CursorFile(path)
            except OSError as error:
                self._log_failure(f"{path.name}: {error.strerror}")

    def _learn_where_full(self, database: Database, progress: Progress) -> None:
        """As `_learn`; the life before may have left neither free pages nor a reserve on a full disk."""
        while True:
            try:
                return self._learn(database, progress)
            except sqlite3.Error as error:
                if not is_full(error) or not self._make_room(database):
                    raise

    def _learn(self, database: Database, progress: Progress) -> None:
        """What is there from before, and what an older version has left."""
        db = database.connection
        (self._install,) = db.execute("SELECT id FROM install").fetchone()
        newest = _newest(db)
        with database.transaction():
            # A consumer that is new begins here; one that is gone holds nothing back.
            db.executemany(
                "INSERT OR IGNORE INTO cursor VALUES (?, ?)", ((name, newest) for name in self._cursors)
            )
            names = ", ".join("?" * len(self._cursors))
            db.execute(f"DELETE FROM cursor WHERE consumer NOT IN ({names})", tuple(self._cursors))  # noqa: S608  question marks
        take_over(database, database.path.parent)
        now = self._now()
        with database.transaction():
            # A clock that was not set, or was set back, says nothing of a message's age.
            stale = "UPDATE message SET created = ? WHERE created < ? OR created > ?"
            db.execute(stale, (now, UNSET_CLOCK, now))
            self._model_id = history.add_model(db, self._model)
            left_open = history.left_open(db, but=self._going_on)
        newest = _newest(db)
        if newest >= LAST_SEQ:
            raise DamagedError("its numbers are used up")
        known = dict(db.execute("SELECT consumer, seq FROM cursor"))
        if progress.install == self._install:
            for name, seq in progress.delivered.items():
                known[name] = max(seq, known.get(name, 0))
        self._found = newest if self._has_numbered else 0
        for name, cursor in self._cursors.items():
            there = min(known.get(name, newest), newest)
            if cursor.delivered > newest > there:
                cursor.early, cursor.delivered = cursor.delivered, there
            else:
                cursor.delivered = max(cursor.delivered, there)
            cursor.handed = cursor.delivered
        self._newest = newest
        self._number_anew(db)
        self._left_open = left_open
        self._recount(db)

    def _number_anew(self, db: sqlite3.Connection) -> None:
        """Messages in memory come after those on disk; one that is there already was read from there."""
        if not self._has_numbered:
            self._next = 0
        self._has_numbered = True
        if self._unwritten and self._unwritten[0].seq <= self._newest:
            there = {message_id for (message_id,) in db.execute("SELECT message_id FROM message")}
            rows = [row for row in self._unwritten if row.message_id not in there]
            self._next = self._newest + 1
            for row in rows:
                row.seq = self._next
                self._next += 1
            self._unwritten = deque(rows)
        self._next = max(self._next, self._newest + 1)

    def _recount(self, db: sqlite3.Connection) -> None:
        """Sizes and depths, from what is there: at the opening, and after another process has changed it."""
        (self._size,) = db.execute("SELECT coalesce(sum(length(event)), 0) FROM message").fetchone()
        for cursor in self._cursors.values():
            (n,) = db.execute(
                "SELECT count(*) FROM message WHERE seq > ? AND NOT (seq > ? AND seq <= ?)",
                (cursor.delivered, self._found, cursor.early),
            ).fetchone()
            after = max(cursor.delivered, cursor.early)
            cursor.depth = n + sum(row.seq > after for row in self._unwritten)
        (self._version,) = db.execute("PRAGMA data_version").fetchone()

    # Writing

    def _write(self, database: Database) -> bool:
        size = 0
        batch = list(islice(self._unwritten, BATCH))
        with database.transaction() as db:
            for row in batch:
                text = encode_event(row.recorded.event)
                size += len(text)
                db.execute(
                    "INSERT INTO message (seq, created, message_id, event) VALUES (?, ?, ?, ?)",
                    (row.seq, row.created, row.message_id, text),
                )
                history.record(
                    db,
                    row.recorded.event,
                    rule=row.recorded.rule,
                    model=self._model_id,
                    cut=row.recorded.is_cut,
                )
            db.executemany(
                "INSERT OR REPLACE INTO cursor VALUES (?, ?)",
                ((name, cursor.delivered) for name, cursor in self._cursors.items()),
            )
        self._size += size
        self._newest = batch[-1].seq
        for _ in batch:
            self._unwritten.popleft()
        if self._unwritten or self._logged_at == -math.inf:
            database.keep_room()
        else:
            log.info("the event log is on disk again, with all that waited in memory")
            self._logged_at = -math.inf
        if self._size > self._bounds.size:
            self._trim(database, self._bounds)
        return True

    def _trim(self, database: Database, bounds: Bounds) -> int:
        """Remove what is beyond its bounds, a turn at most; returns how many messages went."""
        db = database.connection
        slowest = self._slowest()
        rows = db.execute("SELECT seq, created, length(event) FROM message ORDER BY seq")
        gone = expired(rows, now=self._now(), size=self._size, delivered=slowest, bounds=bounds)
        rows.close()
        if not gone.n:
            return 0
        lost = {
            name: db.execute(
                "SELECT count(*) FROM message WHERE seq > ? AND seq <= ?", (cursor.delivered, gone.last)
            ).fetchone()[0]
            for name, cursor in self._cursors.items()
            if cursor.delivered < gone.last
        }
        with database.transaction():
            db.execute("DELETE FROM message WHERE seq <= ?", (gone.last,))
        self._size -= gone.size
        for name, n in lost.items():
            self._lose(name, gone.last, n)
        return gone.n

    def _lose(self, consumer: str, seq: int, n: int) -> None:
        """A consumer will never get the messages to this number, which are so many."""
        cursor = self._cursors[consumer]
        cursor.delivered, cursor.depth = max(cursor.delivered, seq), max(0, cursor.depth - n)
        self._metrics.drop(consumer, n)
        self._dropped[consumer] = self._dropped.get(consumer, 0) + n
        now = time.monotonic()
        if now - self._dropped_at >= LOG_PACE_S:
            self._dropped_at = now
            for name, n_dropped in self._dropped.items():
                log.warning(
                    "%d messages that waited for %s were dropped: too old, or more than there is room for",
                    n_dropped,
                    name,
                )
            self._dropped.clear()

    def _slowest(self) -> int:
        """What every consumer has."""
        return min((cursor.delivered for cursor in self._cursors.values()), default=self._newest)

    def _shorten_history(self, database: Database) -> bool:
        """Delete the oldest events until there is room for new ones, and for a piece of the reserve again."""

        def remove_few() -> int:
            with database.transaction() as db:
                return history.expire(db, before=math.inf, most=0, turn=FEW)

        n = 0
        while database.n_free < PIECE + 2 * SLACK:
            try:
                n_removed = remove_few()
            except sqlite3.Error as error:  # to delete a row may take a page
                if not is_full(error) or not database.use_reserve():
                    raise
                continue
            if not n_removed:
                break
            n += n_removed
        self._metrics.drop("history", n)
        now = time.monotonic()
        if n and now - self._shortened_at >= LOG_PACE_S:
            self._shortened_at = now
            log.error("%s: the disk is full: the oldest events make room for new ones", self._directory)
        return n > 0

    def _tidy(self, database: Database) -> bool:
        for _ in range(TURNS):
            if not self._trim(database, self._bounds):
                break
        now = time.monotonic()
        if now - self._expired_at >= EXPIRE_S:
            self._expired_at = now
            before = self._now() - self._keep.days * 86400.0
            with database.transaction() as db:
                history.expire(db, before=before, most=self._keep.most)
                db.execute("DELETE FROM listened WHERE quarter < ?", (before // QUARTER_S,))
        database.keep_room()
        (version,) = database.connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._recount(database.connection)
        return True

    def _bound_memory(self) -> None:
        """The oldest go, and are missing in the history, and with whoever has not got them yet."""
        if self._directory is None:  # there is no history
            had = min((cursor.delivered for cursor in self._cursors.values()), default=math.inf)
            while self._unwritten and self._unwritten[0].seq <= had:
                self._unwritten.popleft()
        while len(self._unwritten) > self._bounds.memory:
            row = self._unwritten.popleft()
            if self._directory is not None:
                self._metrics.drop("history")
            for name, cursor in self._cursors.items():
                if row.seq > max(cursor.delivered, cursor.early):
                    cursor.depth -= 1
                    self._metrics.drop(name)

    # Reading

    def _stored(self, database: Database, consumer: str, cursor: _Cursor, n: int) -> list[Entry]:
        db = database.connection
        query = (
            "SELECT seq, created, message_id, event FROM message "
            "WHERE seq > ? AND NOT (seq > ? AND seq <= ?) ORDER BY seq LIMIT ?"
        )
        position, entries = cursor.handed, list[Entry]()
        while not entries:
            rows = db.execute(query, (position, self._found, cursor.early, n)).fetchall()
            if not rows:
                break
            if self._now() - rows[0][1] >= self._bounds.age_s and self._trim(database, self._bounds):
                position = max(position, cursor.delivered)
                continue
            for seq, created, message_id, text in rows:
                try:
                    event = decode_event(text)
                    row = _Row(seq, float(created), str(message_id), Recorded(event))
                    entries.append(self._entry(row, event))
                except NOT_AS_WRITTEN:
                    self._drop_damaged(database, consumer, seq, text)
            position = rows[-1][0]
        return entries

    def _drop_damaged(self, database: Database, consumer: str, seq: int, text: object) -> None:
        if seq not in self._damaged:
            self._damaged.add(seq)
            log.error("the event log: a message is damaged, and dropped: %.300r", text)
            self._metrics.drop(consumer)
        with suppress(sqlite3.Error):
            with database.transaction() as db:
                db.execute("DELETE FROM message WHERE seq = ?", (seq,))
            self._recount(database.connection)

    def _entry(self, row: _Row, event: SoundEvent) -> Entry:
        created_at = row.created - self._wall
        return Entry(row.seq, row.message_id, event, created_at, self._bounds.age_s)

    # Cursors and what was refused

    def _save_cursors(self, *, is_clean: bool = False) -> None:
        if self._cursor_file is None or self._database is None:
            return
        try:
            delivered = {name: cursor.delivered for name, cursor in self._cursors.items()}
            self._cursor_file.save(Progress(self._install, delivered, is_clean))
        except OSError as error:
            self._log_failure(f"{CURSORS}: {error.strerror}")

    def _refuse(self, database: Database, consumer: str, entry: Entry, reason: str) -> bool:
        with database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO refused (seq, consumer, at, reason, event) VALUES (?, ?, ?, ?, ?)",
                (entry.seq, consumer, time.time(), reason, encode_event(entry.event)),
            )
            db.execute(
                "DELETE FROM refused WHERE id NOT IN (SELECT id FROM refused ORDER BY id DESC LIMIT ?)",
                (KEEP_REFUSED,),
            )
        return True

    # When the file is no more

    def _set_aside(self, path: Path, error: sqlite3.Error) -> bool:
        """What is in the file is counted as lost, if that is known. False where it cannot be renamed."""
        if self._database is not None:
            self._database.close()
            self._database = None
            for name, cursor in self._cursors.items():
                in_memory = sum(row.seq > max(cursor.delivered, cursor.early) for row in self._unwritten)
                if cursor.depth > in_memory:
                    self._metrics.drop(name, cursor.depth - in_memory)
                    cursor.depth = in_memory
        self._size = self._newest = self._found = 0
        try:
            aside = set_aside(path)
        except OSError as refusal:
            self._log_failure(f"{error}; it cannot be set aside: {refusal.strerror}")
            return False
        log.error("%s: %s: it is set aside as %s, and the event log starts empty", path, error, aside.name)
        return True

    def _leave_what_is_gone(self, database: Database) -> None:
        """Nobody will find this file again: what waits in it goes on from memory."""
        self._log_failure("the file is gone: deleted, or its disk was unmounted")
        slowest = self._slowest()
        query = "SELECT seq, created, message_id, event FROM message WHERE seq > ? ORDER BY seq DESC LIMIT ?"
        with suppress(sqlite3.Error):
            for seq, created, message_id, text in database.connection.execute(
                query, (slowest, max(0, self._bounds.memory - len(self._unwritten)))
            ).fetchall():
                with suppress(*NOT_AS_WRITTEN):
                    recorded = Recorded(checked(decode_event(text)))
                    self._unwritten.appendleft(_Row(seq, created, message_id, recorded))
        database.close()
        self._database = None
        if self._cursor_file is not None:
            self._cursor_file.close()
            self._cursor_file = None

    def _log_failure(self, reason: str) -> None:
        """Log at most once in a while that events are kept in memory alone: a crash would lose them."""
        now = time.monotonic()
        if now - self._logged_at >= LOG_PACE_S:
            self._logged_at = now
            log.error(
                "%s: the event log cannot be used (%s): events wait in memory, lost if this program ends",
                self._directory,
                reason,
            )

    def _count(self) -> None:
        outbox = self._metrics.outbox
        outbox.waiting = {name: cursor.depth for name, cursor in self._cursors.items()}
        outbox.in_memory = len(self._unwritten)
        outbox.on_disk = self._database is not None and not self._unwritten


def _newest(db: sqlite3.Connection) -> int:
    """The highest number that was ever given."""
    used = "SELECT max(seq) FROM message UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'message'"
    return max((int(seq) for (seq,) in db.execute(used) if seq is not None), default=0)
