"""The event log: what is in it is delivered once, and kept, whatever the disk and the clock do."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from streamer.errors import InputError
from streamer.metrics import Metrics
from streamer.store import database
from streamer.store import log as module
from streamer.store.database import Room
from streamer.store.history import Model
from streamer.store.layouts import CURSORS, FILE
from streamer.store.log import Entry, Log, Recorded
from streamer.store.query import reading
from streamer.store.retention import BOUNDS, Bounds
from streamer.types import SoundEvent
from tests.disk import fill, mounted
from tests.reports import event, occurrence

pytestmark = pytest.mark.slow

SMALL = Room(reserve=256 << 10, log=512 << 10)
MQTT = "mqtt"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refused is asked again at once."""
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    monkeypatch.setattr(database, "RETRY_S", 0.0)


class Opened:
    """A log, and what a consumer does with it."""

    def __init__(self, event_log: Log, consumer: str) -> None:
        self.log = event_log
        self._consumer = consumer

    def append(self, events: Sequence[SoundEvent]) -> list[SoundEvent]:
        return self.log.append([Recorded(one) for one in events])

    def read(self, n: int = 1) -> list[Entry]:
        """Read again from what was delivered."""
        return self.log.read(self._consumer, n, again=True)

    def deliver(self, entry: Entry) -> None:
        self.log.deliver({self._consumer: (entry.seq, 1)})

    def drain(self) -> list[Entry]:
        entries = []
        while found := self.read():
            entries += found
            self.deliver(found[0])
        return entries


@contextmanager
def opened(
    directory: Path | None,
    *,
    metrics: Metrics | None = None,
    bounds: Bounds = BOUNDS,
    consumers: Sequence[str] = (MQTT,),
    room: Room = SMALL,
) -> Iterator[Opened]:
    event_log = Log(directory, metrics or Metrics(), consumers=consumers, bounds=bounds, room=room)
    event_log.append(())
    try:
        yield Opened(event_log, MQTT)
    finally:
        event_log.close()


def names(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.event.id, entry.event.phase) for entry in entries]


def aside(directory: Path) -> list[Path]:
    return database.aside_of(directory / FILE)


@pytest.mark.parametrize("on_disk", [True, False])
def test_first_in_first_out(tmp_path: Path, on_disk: bool) -> None:
    """In order, each until it is delivered, on disk as in memory."""
    with opened(tmp_path if on_disk else None) as log:
        log.append(occurrence("e1"))
        log.append(occurrence("e2"))
        (first,) = log.read()
        (again,) = log.read()
        assert first.message_id == again.message_id
        entries = log.drain()
    phases = ("start", "update", "end")
    assert names(entries) == [(event_id, phase) for event_id in ("e1", "e2") for phase in phases]
    assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
    assert len({entry.message_id for entry in entries}) == 6


def test_it_is_there_after_a_kill(tmp_path: Path) -> None:
    """A process that is killed as soon as the event is appended leaves it, and the next one finds it."""
    program = (
        "import os, signal, sys; from pathlib import Path; from streamer.metrics import Metrics;"
        "from streamer.store.log import Log, Recorded; from tests.reports import occurrence;"
        "log = Log(Path(sys.argv[1]), Metrics(), consumers=['mqtt']);"
        "log.append([Recorded(one) for one in occurrence('e1')[:2]]);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert process.returncode == -signal.SIGKILL
    event_log = Log(tmp_path, Metrics(), consumers=[MQTT])
    emitted = event_log.append([Recorded(event("start", event_id="e2"))])
    assert [(one.id, one.phase) for one in emitted] == [("e1", "end"), ("e2", "start")]
    entries = Opened(event_log, MQTT).drain()
    assert names(entries) == [("e1", "start"), ("e1", "update"), ("e1", "end"), ("e2", "start")]
    event_log.close()
    with reading(tmp_path) as reader:
        assert reader.event("e1").is_cut
        assert reader.event("e1").offset == event().heard_at


def test_what_is_delivered_is_not_delivered_again_after_a_kill(tmp_path: Path) -> None:
    """The cursor is on disk as soon as it has moved, without a change of the database."""
    program = (
        "import os, signal, sys; from pathlib import Path; from streamer.metrics import Metrics;"
        "from streamer.store.log import Log, Recorded; from tests.reports import occurrence;"
        "log = Log(Path(sys.argv[1]), Metrics(), consumers=['mqtt']);"
        "log.append([Recorded(one) for one in occurrence('e1')]);"
        "entry = log.read('mqtt', 2)[-1]; log.deliver({'mqtt': (entry.seq, 2)});"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    with opened(tmp_path) as log:
        assert names(log.drain()) == [("e1", "end")]


def test_the_end_after_a_crash(tmp_path: Path) -> None:
    """It is at the last moment that was emitted, comes once, and only of events that were open."""
    with opened(tmp_path) as crashed:
        crashed.append(
            [*occurrence("closed"), event("start", event_id="open"), event("update", event_id="open")]
        )
    with opened(tmp_path) as log:
        end = log.drain()[-1].event
    assert end.offset is not None
    assert (end.id, end.phase, round(end.offset - end.onset, 1)) == ("open", "end", 3.4)
    with opened(tmp_path) as log:
        assert log.drain() == []


def test_an_end_that_comes_after_all(tmp_path: Path) -> None:
    """A crash has ended the event; its true end, where it comes, stands in the history."""
    with opened(tmp_path) as crashed:
        crashed.append([event("start")])
    with opened(tmp_path) as log:
        log.append([event("end")])
    with reading(tmp_path) as reader:
        assert (reader.event("e1").offset, reader.event("e1").is_cut) == (event("end").offset, False)


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    """A number that is gone does not come back: who has seen it would take a new event for a copy."""
    with opened(tmp_path) as log:
        log.append(occurrence("e1"))
        before = log.drain()
    with opened(tmp_path) as log:
        log.append(occurrence("e2"))
        after = log.drain()
    assert not {entry.message_id for entry in before} & {entry.message_id for entry in after}
    assert before[-1].seq < after[0].seq


def test_consumers_have_their_own_cursors(tmp_path: Path) -> None:
    """Each gets all; one that is new begins with what comes then; a slow one holds nobody up."""
    with opened(tmp_path) as log:
        log.append(occurrence("e1"))
        log.drain()
    with opened(tmp_path, consumers=[MQTT, "alerts"]) as log:
        log.append(occurrence("e2"))
        assert names(log.drain()) == [("e2", phase) for phase in ("start", "update", "end")]
    with opened(tmp_path, consumers=[MQTT, "alerts"]) as log:
        assert log.read() == []
        assert names(Opened(log.log, "alerts").drain()) == [("e2", p) for p in ("start", "update", "end")]


def test_what_is_delivered_is_kept_for_a_while(tmp_path: Path) -> None:
    """Nothing is deleted on delivery; behind the slowest cursor the latest messages stay."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics, bounds=Bounds(behind=10)) as log:
        for number in range(20):
            log.append([event("end", event_id=f"e{number:02}")])
        log.drain()
        with closing(sqlite3.connect(tmp_path / FILE)) as db:
            assert db.execute("SELECT count(*) FROM message").fetchone() == (20,)
        log.log.tend()
        with closing(sqlite3.connect(tmp_path / FILE)) as db:
            assert db.execute("SELECT count(*), min(seq) FROM message").fetchone() == (10, 11)
    assert metrics.dropped == {}


@pytest.mark.parametrize(("bounds", "on_disk"), [(Bounds(size=10 * 310), True), (Bounds(memory=10), False)])
def test_the_oldest_go(tmp_path: Path, bounds: Bounds, on_disk: bool) -> None:
    """Beyond its bytes, or in memory its number, the log drops the oldest, and counts them."""
    metrics = Metrics()
    with opened(tmp_path if on_disk else None, metrics=metrics, bounds=bounds) as log:
        for number in range(50):
            log.append([event("end", event_id=f"e{number:02}")])
        entries = log.drain()
        assert 8 <= len(entries) <= 12
        assert entries[-1].event.id == "e49"
        assert metrics.dropped == {MQTT: 50 - len(entries)}
        assert metrics.outbox.depth == 0


def test_what_is_too_old_is_not_delivered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After its age a message is dropped, counted and said; before, how long it has left is known."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as log:
        log.append([event("end", event_id="old"), event("end", event_id="young")])
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE message SET created = created - 7 * 86400 WHERE seq = 1")
        db.execute("UPDATE message SET created = created - 6 * 86400 WHERE seq = 2")
    with opened(tmp_path, metrics=metrics) as log:
        (young,) = log.drain()
    assert young.event.id == "young"
    assert young.age_s == pytest.approx(6 * 86400, abs=60)
    assert young.expiry_s == pytest.approx(86400, abs=60)
    assert metrics.dropped == {MQTT: 1}
    assert f"1 messages that waited for {MQTT} were dropped" in caplog.text


@pytest.mark.parametrize("created", [0.0, 4e9])
def test_a_clock_that_was_wrong_makes_nothing_old(tmp_path: Path, created: float) -> None:
    """Messages that seem to be of 1970, or of the future, are as young as the start that finds them."""
    with opened(tmp_path) as log:
        log.append([event("end")])
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE message SET created = ?", (created,))
    with opened(tmp_path) as log:
        (entry,) = log.drain()
    assert entry.age_s < 60


def _overwrite(start: int, content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(content)

    return damage


def _cut(size: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:size])

    return damage


def _changed(*statements: str) -> Callable[[Path], None]:
    """By another program, or by a disk that changed what SQLite does not check."""

    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA writable_schema = on")
            for statement in statements:
                db.execute(statement)

    return damage


def _other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE message (something TEXT)")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a text": lambda path: path.write_text("this is a text\n" * 1000),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "the header alone": _cut(100),
    "a page": _cut(4096),
    "half of it": _cut(5000),
    "no header": _overwrite(0, bytes(100)),
    "another magic": _overwrite(0, b"X"),
    "pages of no size": _overwrite(16, b"\0\0"),
    "pages of 1000 bytes": _overwrite(16, b"\x03\xe8"),
    "pages of 64 kB": _overwrite(16, b"\0\1"),
    "a format to come": _overwrite(19, b"\x09"),
    "reserved space": _overwrite(20, b"\xff"),
    "four billion pages": _overwrite(28, b"\xff\xff\xff\xff"),
    "free pages that are none": _overwrite(32, b"\0\0\0\xff\0\0\0\7"),
    "a schema to come": _overwrite(44, b"\0\0\0\x63"),
    "a root that is none": _overwrite(100, b"\x77"),
    "a root with too many cells": _overwrite(103, b"\xff\xff"),
    "a page of zeros": _overwrite(4096, bytes(4096)),
    "a page of noise": _overwrite(4096, os.urandom(4096)),
    "other tables": _other_tables,
    "a table is a view": _changed("DROP TABLE message", "CREATE VIEW message AS SELECT 1 AS seq"),
    "no messages": _changed("DROP TABLE message"),
    "no cursors": _changed("DROP TABLE cursor"),
    "no room": _changed("DROP TABLE room"),
    "no history": _changed("DROP TABLE event"),
    "a schema that is nonsense": _changed("UPDATE sqlite_master SET sql = 'CREATE TABLE nonsense'"),
    "a table elsewhere": _changed("UPDATE sqlite_master SET rootpage = 1"),
    "unfinished": _changed("PRAGMA user_version = 0"),
    "no installation": _changed("DELETE FROM install"),
    "numbers used up": _changed("UPDATE sqlite_sequence SET seq = 9223372036854775807"),
    "numbers that are none": _changed("UPDATE sqlite_sequence SET seq = 'many'"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept under another name and that is logged; the log starts empty, with new ids."""
    with opened(tmp_path) as log:
        log.append([event("end", event_id=f"e{number}") for number in range(50)])
        (before,) = log.read()
    damage(tmp_path / FILE)
    with opened(tmp_path) as log:
        log.append([event("end", event_id="new")])
        (after,) = log.drain()
    assert after.event.id == "new"
    assert before.message_id.split("-")[0] != after.message_id.split("-")[0]
    assert len(aside(tmp_path)) == 1
    assert sum("set aside" in record.message for record in caplog.records) == 1


def _flipped(seed: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content, rng = bytearray(path.read_bytes()), random.Random(seed)
        for _ in range(20):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return damage


LESSER: dict[str, Callable[[Path], object]] = {
    "nothing in it": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"S"),
    "more at its end": lambda path: path.write_bytes(path.read_bytes() + os.urandom(10_000)),
    "a log of noise": lambda path: path.with_name(f"{FILE}-wal").write_bytes(os.urandom(10_000)),
    "an index of noise": lambda path: path.with_name(f"{FILE}-shm").write_bytes(os.urandom(32_768)),
    "a journal of noise": lambda path: path.with_name(f"{FILE}-journal").write_bytes(os.urandom(10_000)),
    "cursors of noise": lambda path: path.with_name(CURSORS).write_bytes(os.urandom(8192)),
    "no cursor file": lambda path: path.with_name(CURSORS).unlink(),
    "a column less": _changed("ALTER TABLE message DROP COLUMN message_id"),
    "a column more": _changed("ALTER TABLE message ADD COLUMN more TEXT"),
    "no numbers": _changed("DELETE FROM sqlite_sequence"),
    "numbers below 0": _changed("UPDATE sqlite_sequence SET seq = -5"),
    "cursors that are none": _changed("INSERT OR REPLACE INTO cursor VALUES ('mqtt', 'far')"),
    "cursors beyond the end": _changed("UPDATE cursor SET seq = 4000000"),
    "times that are none": _changed("UPDATE message SET created = 'then'"),
    "endless times": _changed("UPDATE message SET created = 9e999"),
    "ids that are none": _changed("UPDATE message SET message_id = x'ff'"),
    "messages that are no JSON": _changed("UPDATE message SET event = 'nonsense'"),
    "messages that are no text": _changed("UPDATE message SET event = x'ff00fe'"),
    "messages that are a number": _changed("UPDATE message SET event = 5"),
    "messages that are a list": _changed("UPDATE message SET event = '[1]'"),
    "messages too deep": _changed("UPDATE message SET event = replace(hex(zeroblob(2500)), '0', '[')"),
    "messages with nothing in them": _changed("UPDATE message SET event = '{}'"),
    "messages of no source": _changed("UPDATE message SET event = replace(event, '\"kitchen\"', '7')"),
    "messages of no phase": _changed("UPDATE message SET event = replace(event, '\"end\"', '\"+\"')"),
    "open events of no labels": _changed("UPDATE event SET labels = 'nonsense'"),
    "open events that are a list": _changed("UPDATE event SET labels = '[]'"),
    "open events of no time": _changed("UPDATE event SET onset = 'then', offset = NULL"),
    "open events beyond all time": _changed("UPDATE event SET onset = 1e300, offset = NULL"),
    **{f"flipped bits {seed}": _flipped(seed) for seed in range(20)},
}


@pytest.mark.parametrize("damage", LESSER.values(), ids=LESSER.keys())
def test_a_damage_that_sqlite_does_not_see(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """What can be read of the file is delivered, the rest is dropped or set aside, what comes is on disk."""
    with opened(tmp_path) as log:
        log.append([event("end", event_id=f"e{number}") for number in range(50)])
        log.append([event("start", event_id="open")])
    damage(tmp_path / FILE)
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as log:
        log.append([event("end", event_id="new")])
        assert metrics.outbox.on_disk
        entries = log.drain()
    assert entries[-1].event.id == "new"
    assert all(entry.event.phase in ("start", "end") for entry in entries)
    assert len({entry.message_id for entry in entries[-2:]}) == len(entries[-2:])
    with reading(tmp_path) as reader:
        assert reader.event("new").sound == "dog_bark"


def test_a_damaged_message_is_dropped_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those beside it are delivered; it is shown and counted."""
    with opened(tmp_path) as log:
        log.append(occurrence("e1"))
    _changed("UPDATE message SET event = 'nonsense' WHERE seq = 2")(tmp_path / FILE)
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as log:
        assert names(log.drain()) == [("e1", "start"), ("e1", "end")]
        assert metrics.outbox.depth == 0
    assert metrics.dropped == {MQTT: 1}
    assert caplog.text.count("a message is damaged, and dropped: 'nonsense'") == 1


def test_a_damaged_file_that_cannot_be_set_aside(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a disk that is read only, too: events wait in memory, and that is logged once."""
    (small_disk / FILE).write_text("no database")
    (small_disk / CURSORS).write_text("")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    metrics = Metrics()
    with opened(small_disk, metrics=metrics) as log:
        log.append([event("end", event_id="e1")])
        log.append([event("end", event_id="e2")])
        assert not metrics.outbox.on_disk
        assert [entry.event.id for entry in log.drain()] == ["e1", "e2"]
    assert caplog.text.count("the event log cannot be used") == 1


def test_a_file_that_is_damaged_while_it_is_used(tmp_path: Path) -> None:
    """Events go on in a new file; what was lost is counted."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as log:
        log.append([event("end", event_id=f"e{number}") for number in range(200)])
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).write_bytes(content[:4096] + os.urandom(len(content) - 4096))
        for number in range(200):  # until SQLite needs a page that it has not in memory
            log.append([event("end", event_id=f"n{number}")])
        entries = log.drain()
    assert entries[-1].event.id == "n199"
    assert aside(tmp_path)
    assert metrics.dropped[MQTT] + len(entries) == 400


def test_only_some_damaged_files_are_kept(tmp_path: Path) -> None:
    """A disk that damages files is not filled with them."""
    for _ in range(database.KEEP_DAMAGED + 2):
        (tmp_path / FILE).write_text("no database")
        with opened(tmp_path):
            pass
    assert len(aside(tmp_path)) == database.KEEP_DAMAGED


def test_a_newer_file_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is neither changed nor set aside; events wait in memory and are delivered, and that is logged."""
    with opened(tmp_path) as log:
        log.append([event("end", event_id="before")])
    _changed("PRAGMA user_version = 99")(tmp_path / FILE)
    content = (tmp_path / FILE).read_bytes()
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as log:
        log.append([event("end", event_id="meanwhile")])
        assert not metrics.outbox.on_disk
        assert names(log.drain()) == [("meanwhile", "end")]
    assert (tmp_path / FILE).read_bytes() == content
    assert caplog.text.count("a newer version of the program: layout 99") == 1
    with pytest.raises(InputError, match="layout 99"), reading(tmp_path):
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with mounted(tmp_path, "2m") as disk:
        yield disk


def test_a_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reserve is used, then old events make room, then memory; no message is lost, or comes twice."""
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    with opened(small_disk, metrics=metrics) as log:
        log.append([event("end", event_id=f"before{number}") for number in range(20)])
        filling = fill(small_disk)
        appended = 0
        while metrics.outbox.on_disk:
            log.append([event("end", event_id=f"full{appended:04}")])
            fill(small_disk)  # others take what the log leaves
            appended += 1
        assert appended > 400  # a quarter of a MiB was kept for them
        assert "events wait in memory" in caplog.text
        log.append([event("end", event_id="last")])
        entries = []
        for _ in range(10):
            (entry,) = log.read()
            entries.append(entry)
            log.deliver(entry)
        filling.unlink()
        log.append(())
        assert metrics.outbox.on_disk
        assert metrics.outbox.depth == 20 + appended + 1 - 10
    with opened(small_disk, metrics=metrics) as log:
        entries += log.drain()
    full = [f"full{number:04}" for number in range(appended)]
    assert [one.event.id for one in entries] == [*(f"before{n}" for n in range(20)), *full, "last"]
    assert len({one.message_id for one in entries}) == len(entries)
    assert set(metrics.dropped) == {"history"}
    with reading(small_disk) as reader:
        kept = [one.id for one in reader.events()]
    assert len(kept) + metrics.dropped["history"] == 20 + appended + 1
    assert kept[0] == "last"


def test_a_disk_that_stays_full(small_disk: Path) -> None:
    """Events go on to disk, life after life: old ones make room for them, and for the reserve again."""
    metrics = Metrics()
    for life in range(4):
        with opened(small_disk, metrics=metrics) as log:
            fill(small_disk)
            for number in range(40):
                log.append([event("end", event_id=f"{life}{number:02}{n:02}") for n in range(25)])
                assert metrics.outbox.on_disk
                log.log.deliver({MQTT: (log.log.read(MQTT, 25)[-1].seq, 25)})
            log.log.tend()
            assert log.log._database is not None
            assert log.log._database.has_reserve
    assert metrics.dropped["history"] > 0


def test_another_model_on_a_full_disk(small_disk: Path) -> None:
    """Where the life before has used all room, old events make room for what a start has to write."""
    metrics = Metrics()
    with opened(small_disk, metrics=metrics) as log:
        fill(small_disk)
        number = 0
        while not metrics.dropped:
            log.append([event("end", event_id=f"{number:04}")])
            log.drain()
            number += 1
    labels = tuple(f"a label of another model, number {number}" for number in range(2000))
    another = Log(
        small_disk, metrics, consumers=[MQTT], model=Model("another", labels, "its hash"), room=SMALL
    )
    assert another.append([Recorded(event("end", event_id="last"))])
    assert metrics.outbox.on_disk
    another.close()
    with reading(small_disk) as reader:
        assert reader.event("last").model == "another"


def test_a_start_on_a_full_disk(small_disk: Path) -> None:
    """The room of the life before is there: events are on disk at once, after a stop as after a kill."""
    with opened(small_disk):
        pass
    fill(small_disk)
    metrics = Metrics()
    for life in range(3):
        with opened(small_disk, metrics=metrics) as log:
            for number in range(100):
                log.append([event("end", event_id=f"{life}{number:03}")])
            assert metrics.outbox.on_disk
            assert len(log.drain()) == 100
        fill(small_disk)


def test_delivery_is_known_on_a_full_disk(small_disk: Path) -> None:
    """With no byte left, and after a kill, nothing that was delivered is delivered again."""
    metrics = Metrics()
    crashed = Log(small_disk, metrics, consumers=[MQTT], room=SMALL)
    crashed.append([Recorded(event("end", event_id=f"e{number:03}")) for number in range(150)])
    fill(small_disk)
    while metrics.outbox.on_disk:
        crashed.append([Recorded(event("end", event_id="more"))])
    for entry in crashed.read(MQTT, 150):
        crashed.deliver({MQTT: (entry.seq, 1)})
    copy = Log(small_disk, metrics, consumers=[MQTT], room=SMALL)  # what a process would find after a kill
    copy.append(())
    assert all(entry.event.id == "more" for entry in copy.read(MQTT, 1000))
    copy.close()
    crashed.close()


def test_a_disk_that_the_log_fills_itself(small_disk: Path) -> None:
    """What is delivered makes room: nothing comes twice, and what comes is on disk again."""
    metrics = Metrics()
    update = event("update")
    with opened(small_disk, metrics=metrics) as log:
        appended = 0
        while metrics.outbox.on_disk:
            log.append([update])
            appended += 1
        delivered = []
        for _ in range(appended // 2):
            (entry,) = log.read()
            delivered.append(entry)
            log.deliver(entry)
        for _ in range(appended // 4):
            log.append([update])
            assert metrics.outbox.on_disk
    with opened(small_disk, metrics=metrics) as log:
        delivered += log.drain()
    assert [entry.seq for entry in delivered[:-1]] == list(range(1, appended + appended // 4 + 1))
    assert delivered[-1].event.phase == "end"


def test_a_read_only_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events wait in memory and are delivered, that is logged once, and nothing is lost of what was there."""
    metrics = Metrics()

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    with opened(small_disk) as log:
        log.append([event("end", event_id="before")])
    remount("ro")
    with opened(small_disk, metrics=metrics) as log:
        log.append([event("end", event_id="meanwhile")])
        assert not metrics.outbox.on_disk
        (entry,) = log.read()
        assert entry.event.id == "meanwhile"
        log.deliver(entry)
        log.append([event("end", event_id="in flight")])
        (in_flight,) = log.log.read(MQTT, 1)
        remount("rw")
        log.append([event("end", event_id="after")])
        assert metrics.outbox.on_disk
        log.deliver(in_flight)
        entries = log.drain()
    assert [one.event.id for one in entries] == ["before", "after"]
    assert metrics.outbox.depth == 0
    with opened(small_disk) as log:
        assert log.read() == []
    with reading(small_disk) as reader:
        assert {one.id for one in reader.events()} == {"before", "meanwhile", "in flight", "after"}
    assert sum("cannot be used" in record.message for record in caplog.records) == 1


def test_a_disk_that_is_unmounted(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that nobody can find any more is noticed; what waited in it is delivered, and goes on."""
    metrics = Metrics()
    with opened(small_disk / "state", metrics=metrics) as _:
        pass  # there is no such directory: in memory
    with opened(small_disk, metrics=metrics) as log:
        log.append(occurrence("e1"))
        subprocess.run(["umount", "-l", str(small_disk)], check=True)
        log.log.tend()
        log.append([event("start", event_id="e2")])
        assert "the file is gone" in caplog.text
        entries = log.drain()
    assert names(entries) == [*names_of(occurrence("e1")), ("e2", "start")]
    assert len({entry.message_id for entry in entries}) == 4
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small_disk)], check=True)


def names_of(events: Sequence[SoundEvent]) -> list[tuple[str, str]]:
    return [(one.id, one.phase) for one in events]


def test_a_busy_file(tmp_path: Path) -> None:
    """Somebody who locks the file delays events to memory, and no longer than that."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as log:
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        log.append([event("end")])
        assert not metrics.outbox.on_disk
        other.execute("ROLLBACK")
        log.append(())
        assert metrics.outbox.on_disk
        assert len(log.drain()) == 1
        other.close()


def test_memory_is_bounded(tmp_path: Path) -> None:
    """While the disk refuses so many wait; the oldest go, and are counted, for the history too."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics, bounds=Bounds(memory=30)) as log:
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        log.append([event("end", event_id=f"e{number:02}") for number in range(50)])
        assert metrics.outbox.in_memory == 30
        assert metrics.dropped == {MQTT: 20, "history": 20}
        other.execute("ROLLBACK")
        log.append(())
        assert [entry.event.id for entry in log.drain()] == [f"e{number}" for number in range(20, 50)]
        other.close()


def test_refused_messages_are_kept(tmp_path: Path) -> None:
    """They are out of the way, and can be looked at with their reason, also while the log is in use."""
    with opened(tmp_path) as log:
        log.append(occurrence("e1"))
        (first,) = log.read()
        log.log.refuse(MQTT, first, "Not authorized")
        log.deliver(first)
        with reading(tmp_path) as reader:
            contents = reader.contents()
        assert contents.waiting == {MQTT: 2}
        assert contents.oldest_s is not None
        assert [(one.consumer, one.reason, one.event.id) for one in contents.refused] == [
            (MQTT, "Not authorized", "e1")
        ]
        assert names(log.drain()) == [("e1", "update"), ("e1", "end")]
    assert contents.refused[0].at == pytest.approx(time.time(), abs=60)


def test_no_history(tmp_path: Path) -> None:
    """To look where there is none, or something else, is an error of the input."""
    with pytest.raises(InputError, match="no history"), reading(tmp_path):
        pass
    (tmp_path / FILE).write_text("no database")
    with pytest.raises(InputError, match="cannot be read"), reading(tmp_path):
        pass
