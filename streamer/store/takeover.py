"""Takes over what version 0.1 has left: its outbox, with every event that waits in it."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from streamer.store import history
from streamer.store.codec import NOT_AS_WRITTEN, decode_event, encode_event, event_of_message
from streamer.store.database import Database
from streamer.types import SoundEvent

log = logging.getLogger(__name__)

OUTBOX = "outbox.sqlite3"
RESERVE = "outbox.reserve"
CONSUMER = "mqtt"
"""the only one there was"""
BATCH = 250


def take_over(database: Database, directory: Path) -> None:
    """Move the messages of an old outbox into the log, in order, with their ids; then remove it.

    A crash in between takes none twice. Raises sqlite3.Error where the new database refuses; an old one that
    cannot be read is left where it is, and that is logged.
    """
    path = directory / OUTBOX
    if not path.is_file():
        return
    with suppress(OSError):
        (directory / RESERVE).unlink(missing_ok=True)
    try:
        old = sqlite3.connect(path, isolation_level=None)
        with closing(old):
            n = _Move(database, old).run()
    except _UnreadableError as error:
        log.warning(
            "%s: the outbox of an older version cannot be read (%s): it is left as it is", path, error
        )
        return
    log.info("%s: %d waiting messages were taken over from an older version", path, n)
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


class _UnreadableError(Exception):
    pass


class _Move:
    def __init__(self, database: Database, old: sqlite3.Connection) -> None:
        self._database = database
        self._old = old

    def run(self) -> int:
        (install,) = self._read("SELECT id FROM install LIMIT 1")[0]
        db = self._database.connection
        (before, done) = db.execute("SELECT taken_over, taken_to FROM install").fetchone()
        if before != install:
            done = 0
            self._database.change(lambda db: self._take_the_rest(db, str(install)))
        n = 0
        query = "SELECT id, created, message_id, message FROM outbox WHERE id > ? ORDER BY id LIMIT ?"
        while rows := self._read(query, done, BATCH):
            done = int(str(rows[-1][0]))
            self._database.change(lambda db, rows=rows, done=done: _take(db, rows, done))  # type: ignore[misc]  # bound now
            n += len(rows)
        return n

    def _read(self, query: str, *values: int) -> list[tuple[object, ...]]:
        try:
            rows = self._old.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _UnreadableError(error) from error
        if not rows and "install" in query:
            raise _UnreadableError("it names no installation")
        return rows

    def _take_the_rest(self, db: sqlite3.Connection, install: str) -> None:
        """What was refused, and what had not ended: that ends now, as after any crash."""
        for seq, at, reason, message in self._read("SELECT id, at, reason, message FROM refused"):
            if (event := _event_of(message)) is not None:
                db.execute(
                    "INSERT INTO refused (seq, consumer, at, reason, event) VALUES (?, ?, ?, ?, ?)",
                    (seq, CONSUMER, at, reason, encode_event(event)),
                )
        for (written,) in self._read("SELECT event FROM open_event ORDER BY rowid"):
            try:
                event = decode_event(str(written))
            except NOT_AS_WRITTEN:
                log.warning("an event was left open, and cannot be read: %.200r", written)
            else:
                history.record(db, event)
        db.execute("UPDATE install SET taken_over = ?, taken_to = 0", (install,))


def _take(db: sqlite3.Connection, rows: list[tuple[object, ...]], done: int) -> None:
    for _, created, message_id, message in rows:
        if (event := _event_of(message)) is not None:
            db.execute(
                "INSERT INTO message (created, message_id, event) VALUES (?, ?, ?)",
                (created, message_id, encode_event(event)),
            )
            history.record(db, event)
    db.execute("UPDATE install SET taken_to = ?", (done,))


def _event_of(message: object) -> SoundEvent | None:
    try:
        return event_of_message(json.loads(message))  # type: ignore[arg-type]  # else TypeError
    except NOT_AS_WRITTEN:
        log.error("the old outbox: a message is damaged, and dropped: %.300r", message)  # noqa: TRY400  # it says more than the stack
        return None
