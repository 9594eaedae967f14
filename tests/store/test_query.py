"""Questions to the history: pages that miss nothing, reviews, what is forgotten."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import pytest

from streamer.errors import InputError
from streamer.metrics import Metrics
from streamer.store import history, query
from streamer.store.edit import editing, forget
from streamer.store.history import Model
from streamer.store.layouts import FILE
from streamer.store.log import Log, Recorded
from streamer.store.query import Event, Filter, Position, Reader, reading
from streamer.types import SoundEvent
from tests.reports import T0, event, occurrence

MODEL = Model("ast-tiny", ("Dog", "Bark"), "a model of a test")


def append(folder: Path, events: Sequence[SoundEvent], *, rule: str = "") -> None:
    event_log = Log(folder, Metrics(), model=MODEL)
    event_log.append([Recorded(one, rule) for one in events])
    event_log.tend()
    event_log.close()


def many(n: int, seed: int = 1) -> list[SoundEvent]:
    """Ends of events; some began at the same moment."""
    rng = random.Random(seed)
    events = []
    for number in range(n):
        onset = T0 + rng.randrange(n // 2)
        events.append(
            replace(
                event("end", event_id=f"{rng.getrandbits(48):012x}"),
                source_id=rng.choice(("kitchen", "hall")),
                sound=rng.choice(("dog_bark", "doorbell", "siren")),
                onset=onset,
                offset=onset + 1,
                peak=number / n,
            )
        )
    return events


def walk(reader: Reader, wanted: Filter, n: int) -> list[Event]:
    """All pages to the end."""
    found, after = list[Event](), None
    while True:
        page = reader.page(wanted, after=after, n=n)
        assert len(page.events) <= n
        found += page.events
        if page.next is None:
            return found
        after = page.next


def test_an_event_is_one_row(tmp_path: Path) -> None:
    """As it is now, with its rules and its model; phases that come again change nothing."""
    append(tmp_path, [*occurrence("e1"), *occurrence("e1"), event("update")], rule='{"on":0.5}')
    with reading(tmp_path) as reader:
        (only,) = reader.events()
    end = event("end")
    assert (only.id, only.source, only.sound, only.onset, only.offset) == (
        *("e1", "kitchen", "dog_bark"),
        *(end.onset, end.offset),
    )
    assert (only.peak, only.labels, only.model, only.rule) == (
        0.93,
        {"Dog": 0.7, "Bark": 0.93},
        "ast-tiny",
        {"on": 0.5},
    )
    assert (only.verdict, only.is_cut, only.clip) == (None, False, "none")


NOT_KEPT = {"phase", "offset", "score", "emitted_at"}
"""of an event that goes on"""


def test_what_a_crash_has_left_open_is_as_it_was(tmp_path: Path) -> None:
    """Every field of an event comes back from the history, but those that are named here."""
    known = replace(event("update"), verified=True, notify=False, priority="high", epoch=1_795_000_000_000)
    defaults = {field.name: field.default for field in fields(SoundEvent)}
    assert [name for name in defaults if getattr(known, name) == defaults[name]] == []
    append(tmp_path, [known])
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        (found,) = history.left_open(db, but=set())
    kept = [name for name in defaults if name not in NOT_KEPT]
    assert [getattr(found, name) for name in kept] == [getattr(known, name) for name in kept]


@pytest.mark.parametrize("scan", [10, 1000])
def test_pages_miss_nothing(tmp_path: Path, scan: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event of every filter once, newest first, whatever the size of a page."""
    monkeypatch.setattr(query, "SCAN", scan)
    events = many(300)
    append(tmp_path, events)
    with editing(tmp_path) as db:
        for number, one in enumerate(events):
            if number % 3:
                history.review(db, one.id, "right" if number % 3 == 1 else "wrong", sound=None, note=None)
    verdicts = {one.id: ("none", "right", "wrong")[number % 3] for number, one in enumerate(events)}
    spans = ((None, None), (T0 + 50, None), (None, T0 + 50), (T0 + 20, T0 + 90))
    with reading(tmp_path) as reader:
        for source, sound, verdict, (since, until), n in product(
            (None, "hall"), (None, "siren", "cat"), (None, "none", "wrong"), spans, (1, 7, 500)
        ):
            found = walk(reader, Filter(since, until, source, sound, verdict), n)  # type: ignore[arg-type]  # literals
            expected = {
                one.id
                for one in events
                if source in (None, one.source_id)
                and sound in (None, one.sound)
                and verdict in (None, verdicts[one.id])
                and (since is None or one.onset >= since)
                and (until is None or one.onset < until)
            }
            assert len(found) == len(expected)
            assert {one.id for one in found} == expected
            assert [one.position for one in found] == sorted((one.position for one in found), reverse=True)


def test_pages_while_events_come(tmp_path: Path) -> None:
    """Who walks back meets each event that was there once, also while new ones are appended."""
    events = many(100)
    append(tmp_path, events)
    event_log = Log(tmp_path, Metrics())
    with reading(tmp_path) as reader:
        found, after = list[Event](), None
        for number in range(1000):
            page = reader.page(after=after, n=7)
            found += page.events
            event_log.append([Recorded(replace(event("end", event_id=f"new{number}"), onset=T0 + 1e6))])
            after = page.next
            if after is None:
                break
    event_log.close()
    assert sorted(one.id for one in found) == sorted(one.id for one in events)


def test_a_page_reads_an_index(tmp_path: Path) -> None:
    """However many events there are, a page neither sorts them nor counts them."""
    append(tmp_path, many(10))
    statements: list[str] = []
    with reading(tmp_path) as reader:
        reader._db.set_trace_callback(statements.append)
        for wanted in (
            Filter(),
            Filter(since=T0, until=T0 + 5),
            *(Filter(sound="siren"), Filter(source="hall"), Filter(verdict="none"), Filter(verdict="wrong")),
            Filter(sound="siren", source="hall", verdict="right"),
        ):
            reader.page(wanted, after=Position(T0 + 4, 3))
        reader._db.set_trace_callback(None)
        plans = [
            detail
            for statement in statements
            for *_, detail in reader._db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        ]
    assert plans
    assert all("SEARCH" in detail and "TEMP B-TREE" not in detail for detail in plans), plans


def test_an_id_may_be_short(tmp_path: Path) -> None:
    """As long as it names one event."""
    append(tmp_path, [event("end", event_id="abc1"), event("end", event_id="abd2")])
    with reading(tmp_path) as reader:
        assert reader.event("abd").id == "abd2"
        for wrong, reason in (
            ("ab", "more than one"),
            ("x", "no event"),
            ("%", "no event"),
            ("", "more than"),
        ):
            with pytest.raises(InputError, match=reason):
                reader.event(wrong)


def test_reviews_are_kept(tmp_path: Path) -> None:
    """The latest stands with the event, and all of them are known; one can be taken back."""
    append(tmp_path, occurrence("e1"))
    for verdict, sound in (("right", None), ("wrong", "siren"), (None, None)):
        with editing(tmp_path) as db:
            assert history.review(db, "e1", verdict, sound=sound, note="why")
        with reading(tmp_path) as reader:
            one = reader.event("e1")
            assert (one.verdict, one.verdict_sound, one.note) == (verdict, sound, "why")
    with reading(tmp_path) as reader:
        assert [one.verdict for one in reader.reviews("e1")] == ["right", "wrong", None]
    with editing(tmp_path) as db:
        assert not history.review(db, "nobody", "right", sound=None, note=None)


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    """Neither the history, nor what waits, nor the files hold it any more; what still sounds stays."""
    secret = "5ec2e7"  # noqa: S105  the beginning of an id
    event_log = Log(tmp_path, Metrics(), consumers=["mqtt"])
    event_log.append([Recorded(one) for one in occurrence(f"{secret}1")])
    event_log.append([Recorded(replace(one, onset=T0 - 9999)) for one in occurrence("before")])
    event_log.append([Recorded(event("start", event_id="sounds"))])
    with editing(tmp_path) as db:
        history.review(db, f"{secret}1", "right", sound=None, note=f"{secret}2")
    with editing(tmp_path) as db:
        assert forget(db, since=T0 - 5) == (1, 3)
    assert [one.event.id for one in event_log.read("mqtt", 100)] == ["before"] * 3 + ["sounds"]
    event_log.tend()
    event_log.append([])
    with reading(tmp_path) as reader:
        assert {one.id for one in reader.events()} == {"before", "sounds"}
        assert reader.reviews(f"{secret}1") == []
        assert reader.contents().waiting == {"mqtt": 4}
    for path in tmp_path.iterdir():
        assert secret.encode() not in path.read_bytes(), path
    event_log.close()


def test_forgetting_one_source(tmp_path: Path) -> None:
    """The others are left as they are."""
    append(tmp_path, many(50))
    with reading(tmp_path) as reader:
        n = sum(one.source == "hall" for one in reader.events())
    with editing(tmp_path) as db:
        assert forget(db, source="hall") == (n, n)
    with reading(tmp_path) as reader:
        assert sum(1 for _ in reader.events()) == 50 - n


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    """All of it or nothing."""
    append(tmp_path, occurrence("e1"))
    with pytest.raises(RuntimeError), editing(tmp_path) as db:
        history.review(db, "e1", "right", sound=None, note=None)
        raise RuntimeError
    with reading(tmp_path) as reader:
        assert reader.event("e1").verdict is None


def test_old_events_go(tmp_path: Path) -> None:
    """Beyond their days or their number, oldest first; what is pinned, and what sounds, stays."""
    events = [
        replace(event("end", event_id=f"e{number}"), onset=T0 + number, offset=T0 + number + 1)
        for number in range(20)
    ]
    going_on = replace(event("start", event_id="on"), onset=T0 - 5)
    append(tmp_path, [going_on, *events])
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("UPDATE event SET pinned = 1 WHERE id = 'e2'")
        db.execute("UPDATE event SET offset = NULL WHERE id = 'on'")
        assert history.expire(db, before=T0 + 5, most=1000) == 4
        left = {row[0] for row in db.execute("SELECT id FROM event")}
        assert left == {"on", "e2", *(f"e{number}" for number in range(5, 20))}
        assert history.expire(db, before=0, most=10) == 7
        left = {row[0] for row in db.execute("SELECT id FROM event")}
        assert left == {"on", "e2", *(f"e{number}" for number in range(12, 20))}
