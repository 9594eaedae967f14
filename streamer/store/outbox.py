"""Events on disk until the broker has them: SQLite, and a row is committed before anything is said of it.

It blocks, and lives in one thread. Whatever the disk does, events go on: what cannot be written waits in
memory until it can, and what the broker has acknowledged is known also where it cannot be deleted.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar, get_args

from streamer.errors import ConfigError, InputError
from streamer.metrics import Metrics
from streamer.mqtt.messages import encode, event_message
from streamer.mqtt.topics import Topics
from streamer.types import Phase, SoundEvent

log = logging.getLogger(__name__)

FILE = "outbox.sqlite3"
RESERVE = "outbox.reserve"
"""a file of zeros: on a full disk it goes, so that rows can still be deleted. While it is gone the database
may take half of that room: it needs the rest to delete"""
BATCH = 500
"""rows that are written at once: the log, which must fit on the disk too, stays short"""
UNSET_CLOCK = 1_767_225_600.0
"""2026-01-01: a row from before was written while the machine's clock was not set yet"""
KEEP_DAMAGED = 3
KEEP_REFUSED = 1_000
COMPLAINT_PACE_S = 300.0
RETRY_S, FEW = 1.0, 100
"""the pace at which a disk that refused is asked again, where more rows than few are concerned"""

PAGE, ANY_PAGES = 4096, 1 << 30
LAST_ID = 1 << 62
"""near the end of the integers that SQLite has"""
_LAYOUT = 1
_ANY = Topics("any", "any")
"""checks names"""
_SCHEMA = """
CREATE TABLE install (id TEXT NOT NULL);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created REAL NOT NULL,
    message_id TEXT NOT NULL,
    message BLOB NOT NULL
);
CREATE TABLE refused (id INTEGER PRIMARY KEY, at REAL NOT NULL, reason TEXT NOT NULL, message BLOB NOT NULL);
CREATE TABLE open_event (id TEXT PRIMARY KEY, event TEXT NOT NULL);
INSERT INTO install VALUES (lower(hex(randomblob(8))));
PRAGMA user_version = 1;
"""
_DAMAGED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""What SQLite says of a file that is no outbox. All else (full, read-only, busy, failing) may pass.
https://www.sqlite.org/rescode.html"""

_NOT_AS_WRITTEN = (
    ArithmeticError,
    AttributeError,
    ConfigError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""what comes of reading values that a disk has changed"""

T = TypeVar("T")


class _DamagedError(sqlite3.DatabaseError):
    pass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the outbox holds at most; the oldest go first, and are counted."""

    rows: int = 100_000
    size: int = 64 << 20
    """bytes of messages"""
    age_s: float = 7 * 86400.0
    reserve: int = 4 << 20
    """bytes that are kept free for the outbox"""


BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event on its way to the broker."""

    id: int
    """grows from event to event"""
    message_id: str
    """the same whenever it is sent: an installation, a dash, a number that grows with the order"""
    message: dict[str, object]
    age_s: float
    expiry_s: float
    """after so long nobody wants it any more"""


@dataclass(slots=True)
class _Row:
    id: int
    created: float
    message_id: str
    message: bytes
    event: SoundEvent | None = None
    """None of a row that was read back"""


class Outbox:
    """A queue of events on disk; in memory, and that is said loudly, while the disk does not take them."""

    def __init__(
        self, directory: Path | None, node: str, metrics: Metrics, *, bounds: Bounds = BOUNDS
    ) -> None:
        """Without a directory the outbox is in memory alone."""
        self._directory = directory
        self._node = node
        self._metrics = metrics
        self._bounds = bounds
        self._db: sqlite3.Connection | None = None
        # The wall clock may jump; ages within the life of a process are measured by one that does not.
        self._wall = time.time() - time.monotonic()
        self._install = ""
        self._life = uuid.uuid4().hex[:16]
        """stands for the installation where rows are not on disk: their numbers may be given again"""
        # So high because a file that cannot be read yet has older rows, with lower numbers.
        self._next = int(1000 * time.time())
        self._rows = self._size = 0
        """on disk"""
        self._delivered: set[int] = set()
        """rows that the broker has, and that could not be deleted yet"""
        self._unwritten: deque[_Row] = deque()
        """newer than any row on disk"""
        self._retry_at = -math.inf
        self._left_open: list[SoundEvent] = []
        self._complained = -math.inf

    def append(self, events: Sequence[SoundEvent]) -> list[SoundEvent]:
        """When this returns they are on disk, all or none; else in memory, as the metrics say.

        Without events it opens the file, and does what could not be done before. Returns what may be
        said now: the events, and before them the ends of those that a crash had left open.
        """
        self._attempt(lambda _: True)
        told, self._left_open = [*self._left_open, *events], []
        owner = self._life if self._db is None or self._unwritten else self._install
        for event in told:
            message = encode(event_message(event, self._node)).encode()
            self._unwritten.append(_Row(self._next, self._now(), f"{owner}-{self._next}", message, event))
            self._next += 1
        while self._unwritten and self._change(self._write, len(self._unwritten)):
            pass
        if self._unwritten:
            if owner == self._install:  # they are all that is in memory
                for row in self._unwritten:
                    row.message_id = f"{self._life}-{row.id}"
            while len(self._unwritten) > self._bounds.rows:
                self._unwritten.popleft()
                self._metrics.drop("mqtt")
        if self._delivered:
            self._change(self._delete, len(self._delivered))
        self._count()
        if self._db is not None and not self._unwritten:
            self._limit(self._db)
            if self._complained > -math.inf:
                log.info("the outbox is on disk again, with all that waited in memory")
                self._complained = -math.inf
        return told

    def first(self) -> Waiting | None:
        """The oldest event that the broker does not have. It stays until it is `done`."""
        while (row := self._oldest()) is not None:
            age_s = max(0.0, self._now() - row.created)
            try:
                message = _sayable(json.loads(row.message))
            except _NOT_AS_WRITTEN:
                log.error("the outbox: an event is damaged, and dropped: %.300r", row.message)  # noqa: TRY400  # the event says more than the stack
            else:
                if age_s < self._bounds.age_s:
                    self._metrics.outbox.oldest_at = time.monotonic() - age_s
                    expiry_s = self._bounds.age_s - age_s
                    return Waiting(row.id, str(row.message_id), message, age_s, expiry_s)
            self._metrics.drop("mqtt")
            self.done(row.id)
        self._metrics.outbox.oldest_at = None
        return None

    def done(self, row_id: int) -> None:
        """The broker has it. It may have been dropped meanwhile."""
        if self._unwritten and self._unwritten[0].id == row_id:
            self._unwritten.popleft()
        elif self._db is not None:
            self._delivered.add(row_id)
            self._change(self._delete, len(self._delivered))
        self._count()

    def refuse(self, row_id: int, reason: str) -> None:
        """The broker does not want it: set it aside with the reason, and go on."""
        self._attempt(lambda db: self._refuse(db, row_id, reason))
        self.done(row_id)

    def close(self) -> None:
        """Give the file back. What waits in memory is written if that is possible, else it is lost."""
        self._retry_at = -math.inf
        self.append(())
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            self._db = None

    def _change(self, work: Callable[[sqlite3.Connection], bool], n_rows: int) -> bool:
        """Do it, unless the disk has just refused a change and this one is large."""
        now = time.monotonic()
        if now < self._retry_at and n_rows > FEW:
            return False
        if self._attempt(work):
            return True
        self._retry_at = now + RETRY_S
        return False

    def _now(self) -> float:
        return self._wall + time.monotonic()

    def _oldest(self) -> _Row | None:
        rows = self._attempt(self._undelivered)
        if rows is None and self._rows > len(self._delivered):
            return None  # those on disk come first, and cannot be read now
        if rows:
            return rows[0]
        return self._unwritten[0] if self._unwritten else None

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do it, or say why not. On a full disk the reserve goes first; a damaged file is set aside."""
        if self._directory is None:
            return None
        for _ in range(3):
            try:
                if self._db is None:
                    self._db = self._connect(self._directory / FILE)
                return work(self._db)
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if isinstance(error, _DamagedError) or code in _DAMAGED:
                    if not self._set_aside(self._directory / FILE, error):
                        break
                elif code != sqlite3.SQLITE_FULL or not self._free_reserve():
                    self._complain(str(error))
                    break
        return None

    def _connect(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            self._read(db)
        except _NOT_AS_WRITTEN as error:
            db.close()
            raise _DamagedError("its values are not those of an outbox") from error
        except BaseException:
            db.close()
            raise
        return db

    def _read(self, db: sqlite3.Connection) -> None:
        """Learn what is there; make the tables of a new file."""
        for pragma in (
            f"page_size = {PAGE}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "journal_size_limit = 1048576",
        ):
            db.execute(f"PRAGMA {pragma}")
        # Pages: when the disk fills, a short log has its space already.
        db.execute("PRAGMA wal_autocheckpoint = 64")
        if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _DamagedError(found.splitlines()[-1])
        layout = db.execute("PRAGMA user_version").fetchone()[0]
        if layout not in (0, _LAYOUT):
            raise _DamagedError("it was written by another version of the program")
        with _transaction(db):
            if layout == 0:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
            # A clock that was not set, or was set back, says nothing of a row's age.
            stale = "created < ? OR created > ?"
            now = self._now()
            db.execute(f"UPDATE outbox SET created = ? WHERE {stale}", (now, UNSET_CLOCK, now))  # noqa: S608  a constant
        (self._install,) = db.execute("SELECT id FROM install").fetchone()
        self._rows, self._size = db.execute(
            "SELECT count(*), coalesce(sum(length(message)), 0) FROM outbox"
        ).fetchone()
        ids = "SELECT id FROM outbox UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'outbox'"
        after = 1 + max((used for (used,) in db.execute(ids)), default=0)
        if after > LAST_ID:
            raise _DamagedError("its numbers are used up")
        self._next = max(after, self._next) if self._unwritten else after
        rows = db.execute("SELECT event FROM open_event ORDER BY rowid").fetchall()
        self._left_open = [end for (written,) in rows if (end := _end(written)) is not None]
        self._limit(db)

    def _write(self, db: sqlite3.Connection) -> bool:
        dropped, last, rows, size = 0, -1, self._rows, self._size
        with _transaction(db):
            written = list(islice(self._unwritten, BATCH))
            for row in written:
                values = (row.id, row.created, row.message_id, row.message)
                db.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", values)
                rows, size = rows + 1, size + len(row.message)
                if row.event is not None:
                    _follow(db, row.event)
            for row_id, created, length in db.execute(
                "SELECT id, created, length(message) FROM outbox ORDER BY id"
            ):
                is_young = self._now() - created < self._bounds.age_s
                if rows <= self._bounds.rows and size <= self._bounds.size and is_young:
                    break
                last, rows, size = row_id, rows - 1, size - length
                dropped += row_id not in self._delivered
            db.execute("DELETE FROM outbox WHERE id <= ?", (last,))
        self._rows, self._size = rows, size
        self._delivered = {row_id for row_id in self._delivered if row_id > last}
        for _ in written:
            self._unwritten.popleft()
        if dropped:
            self._metrics.drop("mqtt", dropped)
        return True

    def _undelivered(self, db: sqlite3.Connection) -> list[_Row]:
        """The oldest, if there is one."""
        query = "SELECT id, created, message_id, message FROM outbox ORDER BY id"
        with closing(db.execute(query)) as rows:
            return next(([_Row(*row)] for row in rows if row[0] not in self._delivered), [])

    def _delete(self, db: sqlite3.Connection) -> bool:
        """With it goes what could not be deleted before."""
        delete = "DELETE FROM outbox WHERE id = ? RETURNING length(message)"
        with _transaction(db):
            gone = [row for row_id in self._delivered for row in db.execute(delete, (row_id,)).fetchall()]
        self._rows -= len(gone)
        self._size -= sum(length for (length,) in gone)
        self._delivered.clear()
        return True

    def _refuse(self, db: sqlite3.Connection, row_id: int, reason: str) -> bool:
        with _transaction(db):
            db.execute(
                "INSERT OR REPLACE INTO refused SELECT id, ?, ?, message FROM outbox WHERE id = ?",
                (time.time(), reason, row_id),
            )
            db.execute(
                "DELETE FROM refused WHERE id NOT IN (SELECT id FROM refused ORDER BY id DESC LIMIT ?)",
                (KEEP_REFUSED,),
            )
        return True

    def _set_aside(self, path: Path, error: sqlite3.Error) -> bool:
        """What is in the file is counted as lost, if that is known. False where it cannot be renamed."""
        if self._db is not None:
            self._db.close()
            self._db = None
            self._metrics.drop("mqtt", self._rows - len(self._delivered))
        self._rows = self._size = 0
        self._delivered.clear()
        aside = path.with_name(f"{FILE}.damaged-{time.time_ns() // 1000}")
        try:
            path.rename(aside)
        except OSError as refusal:
            self._complain(f"{error}; it cannot be set aside: {refusal.strerror}")
            return False
        log.error("%s: %s: it is set aside as %s, and the outbox starts empty", path, error, aside.name)
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                path.with_name(FILE + suffix).unlink()
        for old in _set_aside_in(path.parent)[:-KEEP_DAMAGED]:
            with suppress(OSError):
                old.unlink()
        return True

    def _limit(self, db: sqlite3.Connection) -> None:
        """With its reserve the database may grow as it likes; without it, to half of what that was."""
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        most = ANY_PAGES if self._has_reserve() else max(pages, self._bounds.reserve // 2 // PAGE)
        db.execute(f"PRAGMA max_page_count = {most}")

    def _has_reserve(self) -> bool:
        """Made only where there is plenty: the reserve must not be what fills the disk."""
        if self._directory is None:
            return False
        path, size = self._directory / RESERVE, self._bounds.reserve
        if path.exists():
            return True
        with suppress(OSError):
            disk = os.statvfs(self._directory)
            if disk.f_bavail * disk.f_frsize >= 2 * size:
                with path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
                return True
        return False

    def _free_reserve(self) -> bool:
        if self._directory is None:
            return False
        try:
            (self._directory / RESERVE).unlink()
        except OSError:
            return False
        log.warning("%s: the disk is full; the outbox lives on its reserve", self._directory)
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._limit(self._db)
        return True

    def _complain(self, trouble: str) -> None:
        """Once in a while, and loudly: the promise is weaker."""
        now = time.monotonic()
        if now - self._complained >= COMPLAINT_PACE_S:
            self._complained = now
            log.error(
                "%s: the outbox cannot be used (%s): events wait in memory, and are lost with this program",
                self._directory,
                trouble,
            )

    def _count(self) -> None:
        outbox = self._metrics.outbox
        outbox.depth = max(0, self._rows - len(self._delivered)) + len(self._unwritten)
        outbox.on_disk = self._db is not None and not self._unwritten


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has rolled back by itself
            db.execute("ROLLBACK")
        raise


def _follow(db: sqlite3.Connection, event: SoundEvent) -> None:
    """Remember what has begun and has not ended."""
    if event.phase == "end":
        db.execute("DELETE FROM open_event WHERE id = ?", (event.id,))
    else:
        db.execute("INSERT OR REPLACE INTO open_event VALUES (?, ?)", (event.id, encode(asdict(event))))


def _end(written: str) -> SoundEvent | None:
    """The end of an event that a crash left open: the last that is known of it is when it was told last."""
    try:
        event = SoundEvent(**json.loads(written))
        offset = max(event.onset, event.heard_at)
        end = replace(event, phase="end", offset=offset, emitted_at=time.time())
        _sayable(event_message(end, node=event.source_id))
    except _NOT_AS_WRITTEN:
        log.warning("an event was left open by another version, and has no end: %.200s", written)
        return None
    return end


def _sayable(message: dict[str, object]) -> dict[str, object]:
    """The message of an event. Raises one of _NOT_AS_WRITTEN where it cannot have a topic."""
    if message["phase"] not in get_args(Phase):
        raise ValueError(message["phase"])
    _ANY.sound_state(message["source"], message["sound"])  # type: ignore[arg-type]  # it checks them
    return message


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that the broker did not want."""

    at: float
    reason: str
    message: dict[str, object]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in an outbox."""

    depth: int
    size: int
    """bytes of messages"""
    oldest_s: float | None
    refused: list[Refused]
    """newest first"""
    set_aside: list[str]
    """names of damaged files, oldest first"""


def peek(directory: Path) -> Contents:
    """Look into an outbox, also while a daemon uses it. Raises InputError."""
    path = directory / FILE
    if not path.is_file():
        raise InputError(f"{directory}: there is no outbox; `streamer run` makes it")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as db:
            depth, size, oldest = db.execute(
                "SELECT count(*), coalesce(sum(length(message)), 0), min(created) FROM outbox"
            ).fetchone()
            refused = db.execute("SELECT at, reason, message FROM refused ORDER BY id DESC").fetchall()
        return Contents(
            depth=depth,
            size=size,
            oldest_s=None if oldest is None else max(0.0, time.time() - oldest),
            refused=[Refused(at, reason, _sayable(json.loads(message))) for at, reason, message in refused],
            set_aside=[file.name for file in _set_aside_in(directory)],
        )
    except (sqlite3.Error, *_NOT_AS_WRITTEN) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _set_aside_in(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{FILE}.damaged-*"))
