"""How long it was listened, and how many events there were, by hours of any zone."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from streamer.metrics import Metrics
from streamer.store import history, listened
from streamer.store.edit import editing, forget
from streamer.store.layouts import FILE, LAYOUT_1
from streamer.store.listened import Listened, add_listened
from streamer.store.log import Keep, Log, Recorded
from streamer.store.query import reading
from streamer.store.writer import Writer
from streamer.types import Hearing
from tests.reports import event

MIDNIGHT = datetime(2026, 10, 25, tzinfo=UTC).timestamp()
"""an hour before clocks in Berlin are set back from 3:00 to 2:00"""


def log_with(folder: Path, *onsets_s: float, sound: str = "dog_bark", source: str = "kitchen") -> Log:
    log = Log(folder, Metrics())
    log.append(
        [
            Recorded(
                replace(
                    event("end", event_id=f"{sound}{number}", sound=sound, source=source),
                    onset=MIDNIGHT + at,
                    offset=MIDNIGHT + at + 2,
                )
            )
            for number, at in enumerate(onsets_s)
        ]
    )
    return log


async def test_seconds_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From hop to hop, also where hops are missing; not across a pause; the rest is written at the end."""
    monkeypatch.setattr(listened, "FLUSH_S", 0.05)
    writer = Writer(Log(tmp_path, Metrics()), Metrics())
    writer.sinks.append(Listened(writer))
    task = asyncio.create_task(writer.run())
    for part in (range(600), range(605, 1200), range(1800, 1900)):
        for second in part:
            writer.put(Hearing("kitchen", MIDNIGHT + second, -40.0, {}))
        await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.wait((task,))
    with reading(tmp_path) as reader:
        (hour,) = reader.hours(MIDNIGHT - 7200, MIDNIGHT + 7200, UTC)
    assert (hour.start, hour.source, hour.sounds) == (MIDNIGHT, "kitchen", {})
    assert hour.listened_s == pytest.approx(1199 + 99)


def test_hours_of_a_zone(tmp_path: Path) -> None:
    """Events that began in them, and their seconds; wrong ones left out; zones of half hours are right."""
    log = log_with(tmp_path, 10, 20, 1790, 1810, 3700)
    log.change_history(
        lambda db: add_listened(db, {(int(MIDNIGHT // 900) + n, "kitchen"): 900 for n in range(8)})
    )
    log.change_history(lambda db: history.review(db, "dog_bark1", "wrong", sound=None, note=None))
    log.close()
    with reading(tmp_path) as reader:
        in_utc = reader.hours(MIDNIGHT, MIDNIGHT + 7200, UTC)
        india = reader.hours(MIDNIGHT, MIDNIGHT + 7200, timezone(timedelta(hours=5, minutes=30)))
        assert reader.hours(MIDNIGHT, MIDNIGHT + 7200, UTC, source="hall") == []
    assert [(hour.start - MIDNIGHT, hour.listened_s, hour.sounds) for hour in in_utc] == [
        (0, 3600, {"dog_bark": (3, pytest.approx(6))}),
        (3600, 3600, {"dog_bark": (1, pytest.approx(2))}),
    ]
    assert [(hour.start - MIDNIGHT, hour.listened_s, hour.sounds) for hour in india] == [
        (-1800, 1800, {"dog_bark": (2, pytest.approx(4))}),
        (1800, 3600, {"dog_bark": (2, pytest.approx(4))}),
        (5400, 1800, {}),
    ]


def test_the_day_on_which_clocks_are_set_back(tmp_path: Path) -> None:
    """It has 25 hours, and no event is in two of them or in none."""
    day = MIDNIGHT - 2 * 3600
    log = log_with(tmp_path, *(3600 * n - 2 * 3600 + 60 for n in range(25)))
    log.close()
    with reading(tmp_path) as reader:
        hours = reader.hours(day, day + 25 * 3600, ZoneInfo("Europe/Berlin"))
    assert [hour.start for hour in hours] == [day + 3600 * n for n in range(25)]
    assert all(hour.sounds == {"dog_bark": (1, pytest.approx(2))} for hour in hours)


def test_they_go_with_what_is_forgotten_and_old(tmp_path: Path) -> None:
    log = log_with(tmp_path, 10)
    quarters = {(int(MIDNIGHT // 900) + n, source): 900.0 for n in range(8) for source in ("kitchen", "hall")}
    log.change_history(lambda db: add_listened(db, quarters))
    with editing(tmp_path) as db:
        forget(db, since=MIDNIGHT + 3600, source="kitchen")
        assert db.execute("SELECT count(*) FROM listened").fetchone() == (12,)
    log.close()
    old = Log(tmp_path, Metrics(), keep=Keep(days=1e-3))
    old.append(())
    old.tend()
    old.close()
    with reading(tmp_path) as reader:
        assert reader.hours(0, 4e9) == []


def test_counts_are_those_of_the_events(tmp_path: Path) -> None:
    """Whatever is done to events, in whatever order: phases, reviews, their return, forgetting, retention."""
    rng = random.Random(5)
    log = Log(tmp_path, Metrics(), keep=Keep(most=60))
    for number in range(120):
        onset = MIDNIGHT + rng.uniform(0, 7200)
        one = replace(
            event("start", event_id=f"e{number}", sound=rng.choice("ab"), source=rng.choice("xy")),
            onset=onset,
            heard_at=onset + 1,
        )
        for phase in ("start", "update", "end")[: rng.randint(1, 3)]:
            later = replace(one, phase=phase, onset=onset - rng.uniform(0, 900), heard_at=onset + 2)
            log.append([Recorded(replace(later, offset=onset + 3 if phase == "end" else None))])
        verdict = rng.choice(("right", "wrong", None))
        with editing(tmp_path) as db:
            history.review(db, f"e{rng.randint(0, number)}", verdict, sound=None, note=None)
            if rng.random() < 0.1:
                history.remove(db, [f"e{rng.randint(0, number)}"])
    with editing(tmp_path) as db:
        history.expire(db, before=MIDNIGHT + 1800, most=60)
        events = db.execute(
            "SELECT CAST(onset / 900 AS INTEGER), source, sound, count(*), "
            "sum(coalesce(offset, seen_at) - onset) FROM event WHERE verdict IS NOT 'wrong' GROUP BY 1, 2, 3"
        ).fetchall()
        counted = db.execute("SELECT * FROM counted WHERE n > 0").fetchall()
    log.close()
    assert len(events) > 20
    assert [row[:4] for row in counted] == [row[:4] for row in events]
    assert [row[4] for row in counted] == pytest.approx([row[4] for row in events])


def test_a_history_of_the_layout_before(tmp_path: Path) -> None:
    """With 100 000 events it is brought up to date, all of them are there, and a copy is beside it."""
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.executescript(f"PRAGMA journal_mode = WAL; {LAYOUT_1}; PRAGMA user_version = 1;")
        db.execute("CREATE TABLE room (id INTEGER PRIMARY KEY, zeros BLOB NOT NULL)")
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
            "INSERT INTO event (id, source, sound, onset, offset, seen_at, peak, level_dbfs, labels, notify, "
            "priority, latency_ms) SELECT printf('%012x', i), 'kitchen', 'dog_bark', 1790000000.0 + i, "
            "1790000001.0 + i, 1790000002.0 + i, 0.9, -30, '{}', 1, 'normal', 90 FROM n"
        )
        db.commit()
    log = Log(tmp_path, Metrics())
    log.append([Recorded(event("end", event_id="new"))])
    log.close()
    assert (tmp_path / f"{FILE}.layout-1").is_file()
    with reading(tmp_path) as reader:
        assert reader.contents().n_events == 100_001
        assert sum(n for hour in reader.hours(0, 4e9, UTC) for n, _ in hour.sounds.values()) == 100_001
