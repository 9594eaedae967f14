"""Changes to the history by another process than the daemon: each is one transaction in the same file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from streamer.errors import InputError, StreamerError
from streamer.store import history
from streamer.store.database import is_damage, is_full
from streamer.store.layouts import FILE, QUARTER_S
from streamer.store.query import BUSY_S, check_layout


@contextmanager
def editing(directory: Path) -> Iterator[sqlite3.Connection]:
    """All that is done in the block, or nothing. Raises InputError; StreamerError where the disk refuses."""
    path = directory / FILE
    if not path.is_file():
        raise InputError(f"{directory}: there is no history; `streamer run` makes it")
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as db:
            check_layout(db, path)
            for pragma in ("synchronous = FULL", "secure_delete = ON"):
                db.execute(f"PRAGMA {pragma}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            # What was deleted is still in SQLite's log until that is emptied.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if is_damage(error):
            raise InputError(f"{path}: cannot be read: {error}; `streamer store check` says more") from None
        advice = "free some space" if is_full(error) else "try again"
        raise StreamerError(f"{path}: nothing was changed: {error}; {advice}") from None


def forget(
    db: sqlite3.Connection, *, since: float | None = None, source: str | None = None
) -> tuple[int, int]:
    """Delete events that began since then, all that was said of them, their messages, and how long it was
    listened then.

    Returns how many events and messages. An event that still goes on stays.
    """
    where, values = _ended_since(since, source)
    chosen = f"SELECT id FROM event WHERE {where}"  # noqa: S608  constants
    n_messages = 0
    for table in ("message", "refused"):
        n_messages += db.execute(
            f"DELETE FROM {table} WHERE json_extract(event, '$.id') IN ({chosen})",  # noqa: S608  constants
            values,
        ).rowcount
    quarters, bounds = ["true"], list[object]()
    for clause, bound in (
        ("quarter >= ?", None if since is None else since // QUARTER_S),
        ("source = ?", source),
    ):
        if bound is not None:
            quarters.append(clause)
            bounds.append(bound)
    db.execute(f"DELETE FROM listened WHERE {' AND '.join(quarters)}", bounds)  # noqa: S608  constants
    event_ids = [event_id for (event_id,) in db.execute(chosen, values)]
    history.remove(db, event_ids)
    return len(event_ids), n_messages


def kept_clips(
    db: sqlite3.Connection, *, since: float | None = None, source: str | None = None
) -> list[tuple[str, float]]:
    """The clips of what `forget` and `forget_missed` would delete: name, begin."""
    where, values = _ended_since(since, source)  # a missed sound has ended, too
    return [
        (str(name), float(start))
        for table, name in history.CLIP_ID.items()
        for name, start in db.execute(
            f"SELECT {name}, coalesce(clip_start, onset) FROM {table} WHERE {where} AND clip = 'kept'",  # noqa: S608  constants
            values,
        )
    ]


def _ended_since(since: float | None, source: str | None) -> tuple[str, list[object]]:
    where, values = ["offset IS NOT NULL"], list[object]()
    for clause, value in (("onset >= ?", since), ("source = ?", source)):
        if value is not None:
            where.append(clause)
            values.append(value)
    return " AND ".join(where), values


def forget_missed(db: sqlite3.Connection, *, since: float | None = None, source: str | None = None) -> int:
    """Delete what was reported as missed; returns how many."""
    where, values = ["true"], list[object]()
    for clause, value in (("onset >= ?", since), ("source = ?", source)):
        if value is not None:
            where.append(clause)
            values.append(value)
    return db.execute(f"DELETE FROM missed WHERE {' AND '.join(where)}", values).rowcount  # noqa: S608  constants
