"""A SQLite file that survives its disk: its room is allocated beforehand, and what is damaged is set aside.

It blocks, and lives in one thread.

SQLite in WAL mode cannot even delete on a full disk when a checkpoint would have to extend the database. So
the file grows only in pieces whose blocks were allocated before, never by itself; a part of it is held free
from the first start on; and the log keeps its size. A full disk then refuses nothing until that room is used.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

PAGE = 4096
PIECE = 64
"""pages by which the file grows, and of which the reserve is made"""
SLACK = 64
"""fewer free pages than this, and the file grows"""
BUSY_S = 1.0
"""how long another program may hold the file before it is reported as busy"""
RETRY_S = 1.0
"""the pace at which a disk that gave no room is asked again"""
LOG_PACE_S = 300.0
KEEP_DAMAGED = 2
CHECKED_WHOLE = 64 << 20
"""bytes: a larger file is checked at its opening only after a crash"""

# SQLite deletes its log when the last connection closes, and with it our room, unless somebody reads.
# https://www.sqlite.org/src/file?name=src/os_unix.c: PENDING_BYTE + 2, 510 bytes
_SHARED_LOCK = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0x40000002, 510, 0)

_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""What SQLite says of a file that is none of its own. All else (full, read-only, busy, failing) may pass.
https://www.sqlite.org/rescode.html"""


T = TypeVar("T")


class DamagedError(sqlite3.DatabaseError):
    """The file is not what it was written as."""


class NewerError(sqlite3.DatabaseError):
    """The file was written by a newer version of the program; it is left alone."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file will never be readable again, as opposed to a disk that may come back."""
    if isinstance(error, NewerError):
        return False
    return isinstance(error, DamagedError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def is_full(error: sqlite3.Error) -> bool:
    return bool(getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are ours from the first start on, whoever fills the disk."""

    reserve: int = 4 << 20
    """in the database"""
    log: int = 4 << 20
    """SQLite's write-ahead log; a quarter of it is checkpointed at a time, half bounds a transaction"""


ROOM = Room()


class Database:
    """One open file. Raises sqlite3.Error from everything that touches it."""

    def __init__(
        self, path: Path, layouts: Sequence[str], *, room: Room = ROOM, is_clean: bool = False
    ) -> None:
        """Open it, or make it. `layouts`: the scripts from each version to the next, the first from nothing.

        Where `is_clean`, the last process closed it in order, and a large file is not read through. Raises
        DamagedError, NewerError and sqlite3.Error, and leaves nothing open.
        """
        self.path = path
        self._room = room
        self._refused_at = -math.inf
        self._logged_at = -math.inf
        self._pieces = 0
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise sqlite3.OperationalError(error.strerror) from error
        try:
            self.connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self.connection.text_factory = text_of
            try:
                self._open(layouts, is_clean=is_clean)
            except BaseException:
                self.connection.close()
                raise
        except BaseException:
            # Closing any descriptor of a file gives up the process's locks on it: only after SQLite's own.
            os.close(self._file)
            raise

    def close(self) -> None:
        """Give the file back, whole: what is in its log goes to its place. The log keeps its room."""
        with suppress(sqlite3.Error, OSError):
            (busy, *_) = self.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            if not busy:
                self._empty_log()
        self.connection.close()
        os.close(self._file)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, on disk when the block ends."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk has rolled back by itself
                self.connection.execute("ROLLBACK")
            raise

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it in one transaction. Where that needs more pages than are free, the file grows before it."""
        while True:
            try:
                with self.transaction() as db:
                    result = work(db)
            except sqlite3.Error as error:
                if not is_full(error) or not (self.extend() or self.use_reserve()):
                    raise
            else:
                self.keep_room()
                return result

    @property
    def is_gone(self) -> bool:
        """Whether the file has no name any more: deleted, or its file system unmounted under us."""
        try:
            named, ours = self.path.stat(), os.fstat(self._file)
        except OSError:
            return True
        return (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino)

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def has_reserve(self) -> bool:
        return self._pieces * PIECE * PAGE >= self._room.reserve

    def extend(self) -> bool:
        """Get free pages from the disk. False where it has none, or has just refused."""
        if time.monotonic() - self._refused_at < RETRY_S:
            return False
        try:
            self._grow()
        except (OSError, sqlite3.OperationalError):
            self._refused_at = time.monotonic()
            return False
        return self.use_reserve()

    @property
    def n_free(self) -> int:
        """Pages that rows can take before the file must grow."""
        return self._number("PRAGMA freelist_count")

    def use_reserve(self, *, but: int = 0) -> bool:
        """Turn a piece of the reserve into free pages. False where no more than `but` are left."""
        if self._pieces <= but:
            return False
        self.connection.execute("PRAGMA secure_delete = OFF")  # zeros need not be overwritten
        try:
            with self.transaction() as db:
                db.execute("DELETE FROM room WHERE id = (SELECT max(id) FROM room)")
        finally:
            self.connection.execute("PRAGMA secure_delete = ON")
        self._pieces = self._number("SELECT count(*) FROM room")
        return True

    def keep_room(self) -> None:
        """Have free pages, a reserve and a log of full size, as far as the disk gives them.

        A disk that has just refused is not asked again at once.
        """
        if time.monotonic() - self._refused_at < RETRY_S:
            return
        try:
            self._allocate_log()
            while not self.has_reserve:
                self._grow()
            if self.n_free < SLACK:
                self._grow()
                self.use_reserve()
        except (OSError, sqlite3.OperationalError) as error:
            now = self._refused_at = time.monotonic()
            if now - self._logged_at >= LOG_PACE_S:
                self._logged_at = now
                log.error(  # noqa: TRY400  # the reason is in the line
                    "%s: the disk does not give the room that is kept for events (%s of %s bytes are there): "
                    "%s; free at least %d MiB",
                    self.path.parent,
                    f"{self._pieces * PIECE * PAGE:,}",
                    f"{self._room.reserve:,}",
                    getattr(error, "strerror", None) or error,
                    (self._room.reserve + self._room.log >> 20) + 1,
                )

    def back_up(self, to: Path) -> None:
        """As the function of that name."""
        back_up(self.connection, to)

    def _open(self, layouts: Sequence[str], *, is_clean: bool) -> None:
        db = self.connection
        db.execute(f"PRAGMA page_size = {PAGE}")
        layout = self._number("PRAGMA user_version")
        if layout > len(layouts):
            raise NewerError(
                f"it was written by a newer version of the program: layout {layout}, not {len(layouts)}"
            )
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",  # what is forgotten is gone from the file too
            f"journal_size_limit = {self._room.log}",
            f"wal_autocheckpoint = {self._room.log // PAGE // 4}",
        ):
            db.execute(f"PRAGMA {pragma}")
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _SHARED_LOCK)
        is_small = os.fstat(self._file).st_size <= CHECKED_WHOLE
        if is_small or not is_clean:
            check(db)
        if 0 < layout < len(layouts):
            self._back_up_before(layout)
        for version, script in enumerate(layouts[layout:], layout + 1):
            with self.transaction():
                for statement in _statements(script):
                    db.execute(statement)
                if version == 1:
                    db.execute("CREATE TABLE room (id INTEGER PRIMARY KEY, zeros BLOB NOT NULL)")
                db.execute(f"PRAGMA user_version = {version}")
        self._pieces = self._number("SELECT count(*) FROM room")
        self._hold_size()
        self.keep_room()

    def _back_up_before(self, layout: int) -> None:
        """Where there is no room for a copy the change goes on without one: it is one transaction."""
        copy = self.path.with_name(f"{self.path.name}.layout-{layout}")
        try:
            self.back_up(copy)
        except (OSError, sqlite3.Error) as error:
            log.warning("%s: no copy before the change of its layout: %s", self.path, error)
        else:
            log.info("%s: layout %d is kept as %s", self.path, layout, copy.name)

    def _grow(self) -> None:
        """A piece more in the reserve, of blocks allocated before. Raises OSError, sqlite3.Error."""
        pages = self._number("PRAGMA page_count")
        if self.n_free < PIECE + SLACK:
            pages += PIECE + 8
            os.posix_fallocate(self._file, 0, pages * PAGE)
        try:
            self.connection.execute(f"PRAGMA max_page_count = {pages}")
            with self.transaction() as db:
                db.execute("INSERT INTO room (zeros) VALUES (zeroblob(?))", (PIECE * (PAGE - 4),))
        finally:
            self._hold_size()
        self._pieces = self._number("SELECT count(*) FROM room")

    def _hold_size(self) -> None:
        self.connection.execute(f"PRAGMA max_page_count = {self._number('PRAGMA page_count')}")

    def _empty_log(self) -> None:
        """Nothing in it is needed; read again, it would spoil a file that was put in this one's place."""
        self.connection.execute("BEGIN IMMEDIATE")  # nobody writes to it meanwhile
        file = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(file, bytes(32), 0)
            os.fdatasync(file)
        finally:
            os.close(file)
            self.connection.execute("ROLLBACK")

    def _allocate_log(self) -> None:
        with suppress(FileNotFoundError):
            file = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
            try:
                # Zeros at its end are read as the end of the log.
                if os.fstat(file).st_size < self._room.log:
                    os.posix_fallocate(file, 0, self._room.log)
            finally:
                os.close(file)

    def _number(self, query: str) -> int:
        return int(self.connection.execute(query).fetchone()[0])


def text_of(data: bytes) -> str:
    """Text of a row; bytes that a disk has changed are marks in it, and not an error of the whole query."""
    return data.decode(errors="replace")


def check(db: sqlite3.Connection) -> None:
    """Read all of it. Raises DamagedError, which names the first thing that is wrong."""
    if (found := str(db.execute("PRAGMA quick_check(1)").fetchone()[0])) != "ok":
        raise DamagedError(found.splitlines()[-1])


def _statements(script: str) -> Iterator[str]:
    """One by one; a trigger has more than one within it."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def back_up(db: sqlite3.Connection, to: Path) -> None:
    """Copy an open database as it is at one moment. Raises sqlite3.Error; an unfinished copy is removed."""
    draft = to.with_name(f"{to.name}.part")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(draft)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        draft.replace(to)
    except OSError as error:
        raise sqlite3.OperationalError(error.strerror) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a closed database; returns its new name. The newest few are kept. Raises OSError."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1000}")
    path.rename(aside)
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink()
    for old in aside_of(path)[:-KEEP_DAMAGED]:
        with suppress(OSError):
            old.unlink()
    return aside


def aside_of(path: Path) -> list[Path]:
    """What was set aside of it, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))
