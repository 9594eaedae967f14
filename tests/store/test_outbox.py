"""Events on disk: what is in it is told once, whatever the disk and the clock do."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from streamer.errors import InputError
from streamer.metrics import Metrics
from streamer.store import outbox as module
from streamer.store.outbox import FILE, RESERVE, Bounds, Outbox, Waiting, peek
from tests.reports import event, occurrence

pytestmark = pytest.mark.slow

SMALL = Bounds(reserve=65536)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refused is asked again at once."""
    monkeypatch.setattr(module, "RETRY_S", 0.0)


@contextmanager
def opened(
    directory: Path | None, *, metrics: Metrics | None = None, bounds: Bounds = SMALL
) -> Iterator[Outbox]:
    outbox = Outbox(directory, "pi", metrics or Metrics(), bounds=bounds)
    outbox.append(())
    try:
        yield outbox
    finally:
        outbox.close()


def drain(outbox: Outbox) -> list[Waiting]:
    waited = []
    while (waiting := outbox.first()) is not None:
        waited.append(waiting)
        outbox.done(waiting.id)
    return waited


def names(waited: list[Waiting]) -> list[tuple[object, object]]:
    return [(waiting.message["id"], waiting.message["phase"]) for waiting in waited]


@pytest.mark.parametrize("on_disk", [True, False])
def test_first_in_first_out(tmp_path: Path, on_disk: bool) -> None:
    """In order, each until it is done, on disk as in memory."""
    with opened(tmp_path if on_disk else None) as outbox:
        outbox.append(occurrence("e1"))
        outbox.append(occurrence("e2"))
        first = outbox.first()
        assert first is not None
        again = outbox.first()
        assert again is not None
        assert first.message_id == again.message_id
        waited = drain(outbox)
    phases = ("start", "update", "end")
    assert names(waited) == [(event_id, phase) for event_id in ("e1", "e2") for phase in phases]
    assert [waiting.id for waiting in waited] == sorted(waiting.id for waiting in waited)
    assert len({waiting.message_id for waiting in waited}) == 6


def test_it_is_there_after_a_kill(tmp_path: Path) -> None:
    """A process that is killed as soon as the event is recorded leaves it, and the next one finds it."""
    program = (
        "import os, signal, sys; from pathlib import Path; from streamer.metrics import Metrics;"
        "from streamer.store.outbox import Outbox; from tests.reports import occurrence;"
        "outbox = Outbox(Path(sys.argv[1]), 'pi', Metrics()); outbox.append(occurrence('e1')[:2]);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert process.returncode == -signal.SIGKILL
    outbox = Outbox(tmp_path, "pi", Metrics())
    told = outbox.append([event("start", event_id="e2")])
    assert [(one.id, one.phase) for one in told] == [("e1", "end"), ("e2", "start")]
    assert names(drain(outbox)) == [("e1", "start"), ("e1", "update"), ("e1", "end"), ("e2", "start")]
    outbox.close()


def test_the_end_after_a_crash(tmp_path: Path) -> None:
    """It is at the last moment that was told, is said once, and only of events that were open."""
    with opened(tmp_path) as crashed:
        crashed.append(
            [*occurrence("closed"), event("start", event_id="open"), event("update", event_id="open")]
        )
    with opened(tmp_path) as outbox:
        end = drain(outbox)[-1].message
    assert (end["id"], end["phase"], end["duration_s"]) == ("open", "end", 3.4)
    with opened(tmp_path) as outbox:
        assert drain(outbox) == []


def test_ids_are_never_given_twice(tmp_path: Path) -> None:
    """A number that is gone does not come back: who has seen it would take a new event for a copy."""
    with opened(tmp_path) as outbox:
        outbox.append(occurrence("e1"))
        before = drain(outbox)
    with opened(tmp_path) as outbox:
        outbox.append(occurrence("e2"))
        after = drain(outbox)
    assert not {waiting.message_id for waiting in before} & {waiting.message_id for waiting in after}
    assert before[-1].id < after[0].id


@pytest.mark.parametrize(
    ("bounds", "on_disk"), [(Bounds(rows=10), True), (Bounds(size=10 * 420), True), (Bounds(rows=10), False)]
)
def test_the_oldest_go(tmp_path: Path, bounds: Bounds, on_disk: bool) -> None:
    """Beyond its rows or, on disk, its bytes the outbox drops the oldest, and counts them."""
    metrics = Metrics()
    with opened(tmp_path if on_disk else None, metrics=metrics, bounds=bounds) as outbox:
        for number in range(50):
            outbox.append([event("end", event_id=f"e{number:02}")])
        waited = drain(outbox)
    assert 8 <= len(waited) <= 12
    assert waited[-1].message["id"] == "e49"
    assert metrics.dropped == {"mqtt": 50 - len(waited)}
    assert metrics.outbox.depth == 0


def test_what_is_too_old_is_not_told(tmp_path: Path) -> None:
    """After its age an event is dropped and counted; before, the broker learns how long it has left."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as outbox:
        outbox.append([event("end", event_id="old"), event("end", event_id="young")])
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE outbox SET created = created - 7 * 86400 WHERE id = 1")
        db.execute("UPDATE outbox SET created = created - 6 * 86400 WHERE id = 2")
    with opened(tmp_path, metrics=metrics) as outbox:
        (young,) = drain(outbox)
    assert young.message["id"] == "young"
    assert young.age_s == pytest.approx(6 * 86400, abs=60)
    assert young.expiry_s == pytest.approx(86400, abs=60)
    assert metrics.dropped == {"mqtt": 1}


@pytest.mark.parametrize("created", [0.0, 4e9])
def test_a_clock_that_was_wrong_makes_nothing_old(tmp_path: Path, created: float) -> None:
    """Rows that seem to be of 1970, or of the future, are as young as the start that finds them."""
    with opened(tmp_path) as outbox:
        outbox.append([event("end")])
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE outbox SET created = ?", (created,))
    with opened(tmp_path) as outbox:
        (waiting,) = drain(outbox)
    assert waiting.age_s < 60


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
        db.execute("CREATE TABLE outbox (something TEXT)")


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
    "a table is a view": _changed("DROP TABLE outbox", "CREATE VIEW outbox AS SELECT 1 AS id"),
    "no tables": _changed("DROP TABLE outbox"),
    "no open events": _changed("DROP TABLE open_event"),
    "a schema that is nonsense": _changed("UPDATE sqlite_master SET sql = 'CREATE TABLE nonsense'"),
    "a table elsewhere": _changed("UPDATE sqlite_master SET rootpage = 1"),
    "newer": _changed("PRAGMA user_version = 99"),
    "unfinished": _changed("PRAGMA user_version = 0"),
    "no installation": _changed("DELETE FROM install"),
    "numbers used up": _changed("UPDATE sqlite_sequence SET seq = 9223372036854775807"),
    "numbers that are none": _changed("UPDATE sqlite_sequence SET seq = 'many'"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept under another name and that is said; the outbox starts empty, with new ids."""
    with opened(tmp_path) as outbox:
        outbox.append([event("end", event_id=f"e{number}") for number in range(50)])
        before = outbox.first()
    damage(tmp_path / FILE)
    with opened(tmp_path) as outbox:
        outbox.append([event("end", event_id="new")])
        (after,) = drain(outbox)
    assert after.message["id"] == "new"
    assert before is not None
    assert before.message_id.split("-")[0] != after.message_id.split("-")[0]
    assert len(peek(tmp_path).set_aside) == 1
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
    "a column less": _changed("ALTER TABLE outbox DROP COLUMN message_id"),
    "a column more": _changed("ALTER TABLE outbox ADD COLUMN more TEXT"),
    "no numbers": _changed("DELETE FROM sqlite_sequence"),
    "numbers below 0": _changed("UPDATE sqlite_sequence SET seq = -5"),
    "times that are none": _changed("UPDATE outbox SET created = 'then'"),
    "endless times": _changed("UPDATE outbox SET created = 9e999"),
    "ids that are none": _changed("UPDATE outbox SET message_id = x'ff'"),
    "messages that are no JSON": _changed("UPDATE outbox SET message = 'nonsense'"),
    "messages that are no text": _changed("UPDATE outbox SET message = x'ff00fe'"),
    "messages that are a number": _changed("UPDATE outbox SET message = 5"),
    "messages that are a list": _changed("UPDATE outbox SET message = '[1]'"),
    "messages too deep": _changed("UPDATE outbox SET message = replace(hex(zeroblob(2500)), '0', '[')"),
    "messages with nothing in them": _changed("UPDATE outbox SET message = '{}'"),
    "messages of no source": _changed("UPDATE outbox SET message = replace(message, 'kitchen', '#')"),
    "messages of no phase": _changed("UPDATE outbox SET message = replace(message, '\"end\"', '\"+\"')"),
    "open events that are no JSON": _changed("INSERT INTO open_event VALUES ('a', 'nonsense')"),
    "open events that are a list": _changed("INSERT INTO open_event VALUES ('a', '[]')"),
    "open events of no time": _changed(
        "INSERT INTO open_event SELECT 'a', replace(event, '1790000000.0', 'null') FROM open_event"
    ),
    "open events beyond all time": _changed(
        "INSERT INTO open_event SELECT 'a', replace(event, '1790000000.0', '1e300') FROM open_event"
    ),
    **{f"flipped bits {seed}": _flipped(seed) for seed in range(20)},
}


@pytest.mark.parametrize("damage", LESSER.values(), ids=LESSER.keys())
def test_a_damage_that_sqlite_does_not_see(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """What can be said of the file is said, the rest is dropped or set aside, and what comes is on disk."""
    with opened(tmp_path) as outbox:
        outbox.append([event("end", event_id=f"e{number}") for number in range(50)])
        outbox.append([event("start", event_id="open")])
    damage(tmp_path / FILE)
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as outbox:
        outbox.append([event("end", event_id="new")])
        assert metrics.outbox.on_disk
        waited = drain(outbox)
    assert waited[-1].message["id"] == "new"
    assert all(waiting.message["phase"] in ("start", "end") for waiting in waited)
    assert len({waiting.message_id for waiting in waited[-2:]}) == len(waited[-2:])
    peek(tmp_path)


def test_a_damaged_event_is_dropped_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those beside it are told; it is shown and counted."""
    with opened(tmp_path) as outbox:
        outbox.append(occurrence("e1"))
    _changed("UPDATE outbox SET message = 'nonsense' WHERE id = 2")(tmp_path / FILE)
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as outbox:
        assert names(drain(outbox)) == [("e1", "start"), ("e1", "end")]
    assert metrics.dropped == {"mqtt": 1}
    assert caplog.text.count("an event is damaged, and dropped: 'nonsense'") == 1


def test_a_damaged_file_that_cannot_be_set_aside(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a disk that is read only, too: events wait in memory, and that is said once."""
    (small_disk / FILE).write_text("no database")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    metrics = Metrics()
    with opened(small_disk, metrics=metrics) as outbox:
        outbox.append([event("end", event_id="e1")])
        outbox.append([event("end", event_id="e2")])
        assert not metrics.outbox.on_disk
        assert [waiting.message["id"] for waiting in drain(outbox)] == ["e1", "e2"]
    assert caplog.text.count("it cannot be set aside: Read-only file system") == 1


def test_a_file_that_is_damaged_while_it_is_used(tmp_path: Path) -> None:
    """Events go on in a new file; what was lost is counted."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as outbox:
        outbox.append([event("end", event_id=f"e{number}") for number in range(200)])
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).write_bytes(content[:4096] + os.urandom(len(content) - 4096))
        for number in range(200):  # until SQLite needs a page that it has not in memory
            outbox.append([event("end", event_id=f"n{number}")])
        waited = drain(outbox)
    assert waited[-1].message["id"] == "n199"
    assert peek(tmp_path).set_aside
    assert metrics.dropped["mqtt"] + len(waited) == 400


def test_only_some_damaged_files_are_kept(tmp_path: Path) -> None:
    """A disk that damages files is not filled with them."""
    for _ in range(module.KEEP_DAMAGED + 2):
        (tmp_path / FILE).write_text("no database")
        with opened(tmp_path):
            pass
    assert len(peek(tmp_path).set_aside) == module.KEEP_DAMAGED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mount = shutil.which("mount", path="/bin:/usr/bin:/sbin")
    assert mount is not None
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte."""
    file = disk / "filling"
    with file.open("wb", buffering=0) as filling:
        for block in (4096, 1):
            try:
                while True:
                    filling.write(bytes(block))
            except OSError:
                pass
    return file


def test_a_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reserve goes first, then events wait in memory; with space all is as before, and nothing twice."""
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    with opened(small_disk, metrics=metrics) as outbox:
        outbox.append([event("end", event_id=f"before{number}") for number in range(20)])
        filling = fill(small_disk)
        told = 0
        while metrics.outbox.on_disk:
            outbox.append([event("end", event_id=f"full{told:04}")])
            fill(small_disk)  # others take what the outbox leaves
            told += 1
        assert not (small_disk / RESERVE).exists()
        assert "lives on its reserve" in caplog.text
        assert "events wait in memory" in caplog.text
        outbox.append([event("end", event_id="last")])
        waited = []
        for _ in range(10):
            waiting = outbox.first()
            assert waiting is not None
            waited.append(waiting)
            outbox.done(waiting.id)
        filling.unlink()
        outbox.append(())
        assert metrics.outbox.on_disk
        assert metrics.outbox.depth == 20 + told + 1 - 10
    with opened(small_disk, metrics=metrics) as outbox:
        waited += drain(outbox)
    full = [f"full{number:04}" for number in range(told)]
    assert [one.message["id"] for one in waited] == [*(f"before{n}" for n in range(20)), *full, "last"]
    assert len({one.message_id for one in waited}) == len(waited)
    assert metrics.dropped == {}


def test_a_disk_that_the_outbox_fills_itself(small_disk: Path) -> None:
    """What is delivered can still be deleted: nothing comes twice, and there is room on disk again."""
    metrics = Metrics()
    bounds = Bounds(reserve=128 << 10)
    with opened(small_disk, metrics=metrics, bounds=bounds) as outbox:
        told = 0
        while metrics.outbox.on_disk or told < 3000:
            outbox.append([event("end", event_id=f"{told:04}")])
            told += 1
        waited = []
        for _ in range(told // 2):
            waiting = outbox.first()
            assert waiting is not None
            waited.append(waiting)
            outbox.done(waiting.id)
        assert not outbox._delivered  # all that was delivered is deleted
    with opened(small_disk, metrics=metrics, bounds=bounds) as outbox:
        assert metrics.outbox.on_disk
        waited += drain(outbox)
        outbox.append([event("end", event_id="after")])
        assert metrics.outbox.on_disk
    names_of = [waiting.message["id"] for waiting in waited]
    assert names_of == sorted(set(names_of))
    assert names_of[: told // 2] == [f"{number:04}" for number in range(told // 2)]


def test_a_read_only_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events wait in memory, that is said once, and what was on disk comes first."""
    metrics = Metrics()

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    with opened(small_disk) as outbox:
        outbox.append([event("end", event_id="before")])
    remount("ro")
    with opened(small_disk, metrics=metrics) as outbox:
        outbox.append([event("end", event_id="meanwhile")])
        assert not metrics.outbox.on_disk
        waiting = outbox.first()
        assert waiting is not None
        remount("rw")
        outbox.append([event("end", event_id="after")])
        assert metrics.outbox.on_disk
        outbox.done(waiting.id)
        waited = [waiting, *drain(outbox)]
    assert {waiting.message["id"] for waiting in waited} == {"before", "meanwhile", "after"}
    assert len(waited) == 3
    assert sum("cannot be used" in record.message for record in caplog.records) == 1


def test_a_busy_file(tmp_path: Path) -> None:
    """Somebody who locks the file delays events to memory, and no longer than that."""
    metrics = Metrics()
    with opened(tmp_path, metrics=metrics) as outbox:
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        outbox.append([event("end")])
        assert not metrics.outbox.on_disk
        other.execute("ROLLBACK")
        outbox.append(())
        assert metrics.outbox.on_disk
        assert len(drain(outbox)) == 1
        other.close()


def test_refused_events_are_set_aside(tmp_path: Path) -> None:
    """They are out of the way, and can be looked at with their reason, also while the outbox is in use."""
    with opened(tmp_path) as outbox:
        outbox.append(occurrence("e1"))
        first = outbox.first()
        assert first is not None
        outbox.refuse(first.id, "Not authorized")
        contents = peek(tmp_path)
        assert contents.depth == 2
        assert contents.oldest_s is not None
        assert [(one.reason, one.message["id"], one.message["phase"]) for one in contents.refused] == [
            ("Not authorized", "e1", "start")
        ]
        assert names(drain(outbox)) == [("e1", "update"), ("e1", "end")]
    assert contents.refused[0].at == pytest.approx(time.time(), abs=60)


def test_no_outbox(tmp_path: Path) -> None:
    """To look where there is none, or something else, is an error of the input."""
    with pytest.raises(InputError, match="no outbox"):
        peek(tmp_path)
    (tmp_path / FILE).write_text("no database")
    with pytest.raises(InputError, match="cannot be read"):
        peek(tmp_path)
