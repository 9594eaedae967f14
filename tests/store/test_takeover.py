"""The outbox of version 0.1: every event that waits in it is delivered by this version, once, in order."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from streamer.metrics import Metrics
from streamer.mqtt.messages import encode, event_message
from streamer.store.database import Room
from streamer.store.log import Log, Recorded
from streamer.store.query import reading
from streamer.types import SoundEvent
from tests.reports import event, occurrence

SCHEMA = """
CREATE TABLE install (id TEXT NOT NULL);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created REAL NOT NULL,
    message_id TEXT NOT NULL,
    message BLOB NOT NULL
);
CREATE TABLE refused (id INTEGER PRIMARY KEY, at REAL NOT NULL, reason TEXT NOT NULL, message BLOB NOT NULL);
CREATE TABLE open_event (id TEXT PRIMARY KEY, event TEXT NOT NULL);
INSERT INTO install VALUES ('0123456789abcdef');
PRAGMA user_version = 1;
"""
"""as version 0.1.0 made it"""
NOW = time.time()
MQTT = "mqtt"


def message(one: SoundEvent) -> bytes:
    return encode(event_message(one, "pi")).encode()


def outbox(folder: Path, waiting: list[SoundEvent], *, going_on: list[SoundEvent], refused: int = 0) -> None:
    """One as version 0.1 leaves it, with its reserve; ids begin at 7."""
    with closing(sqlite3.connect(folder / "outbox.sqlite3")) as db:
        db.executescript(f"PRAGMA journal_mode = WAL; {SCHEMA}")
        db.executemany(
            "INSERT INTO outbox VALUES (?, ?, ?, ?)",
            [(7 + i, NOW, f"0123456789abcdef-{7 + i}", message(one)) for i, one in enumerate(waiting)],
        )
        db.executemany(
            "INSERT INTO refused VALUES (?, ?, 'Not authorized', ?)",
            [(i, NOW, message(event("start", event_id=f"r{i}"))) for i in range(refused)],
        )
        values = [asdict(one) for one in going_on]
        db.executemany(
            "INSERT INTO open_event VALUES (?, ?)", [(one["id"], json.dumps(one)) for one in values]
        )
        db.commit()
    (folder / "outbox.reserve").write_bytes(bytes(4 << 20))


def drain(folder: Path, *, room: Room | None = None) -> list[tuple[str, str, str]]:
    """Message id, event id and phase of what a consumer gets."""
    event_log = Log(folder, Metrics(), consumers=[MQTT], **({} if room is None else {"room": room}))
    event_log.append([Recorded(event("start", event_id="new"))])
    entries = []
    while found := event_log.read(MQTT, 100):
        entries += found
        event_log.deliver({MQTT: (found[-1].seq, len(found))})
    event_log.close()
    return [(one.message_id, one.event.id, one.event.phase) for one in entries]


def test_all_that_waits(tmp_path: Path) -> None:
    """It comes first, with its ids; what had not ended ends; the history has it; the old files are gone."""
    waiting = [*occurrence("e1"), event("start", event_id="e2")]
    outbox(tmp_path, waiting, going_on=[event("start", event_id="e2")], refused=2)
    entries = drain(tmp_path)
    assert [entry[1:] for entry in entries] == [
        *((one.id, one.phase) for one in waiting),
        ("e2", "end"),
        ("new", "start"),
    ]
    assert [entry[0] for entry in entries[:4]] == [f"0123456789abcdef-{7 + i}" for i in range(4)]
    assert len({entry[0] for entry in entries}) == 6
    assert [path.name for path in tmp_path.glob("outbox*")] == []
    with reading(tmp_path) as reader:
        assert {one.id: one.is_cut for one in reader.events()} == {"e1": False, "e2": True, "new": False}
        assert [one.event.id for one in reader.contents().refused] == ["r1", "r0"]
    assert [entry[1:] for entry in drain(tmp_path)] == [("new", "end"), ("new", "start")]


def test_an_open_event_of_an_older_version(tmp_path: Path) -> None:
    """A field that events have got since does not lose its end."""
    outbox(tmp_path, [], going_on=[event("update", event_id="e1")])
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite3")) as db:
        old = asdict(event("update", event_id="e1"))
        for field in ("verified", "notify", "priority", "level_dbfs"):
            del old[field]
        db.execute("UPDATE open_event SET event = ?", (json.dumps({**old, "gone": 1}),))
        db.commit()
    assert drain(tmp_path)[0][1:] == ("e1", "end")


@pytest.mark.slow
def test_kills_in_between(tmp_path: Path) -> None:
    """Nothing is taken twice, and nothing is left, wherever the process dies."""
    n = 3000
    waiting = [event("end", event_id=f"e{i:04}") for i in range(n)]
    outbox(tmp_path, waiting, going_on=[])
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from streamer.metrics import Metrics; from streamer.store.log import Log\n"
        "from streamer.store import takeover\n"
        "take, left = takeover._take, [int(sys.argv[2])]\n"
        "def dying(*args):\n"
        "    take(*args)\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "takeover._take = dying\n"
        "Log(Path(sys.argv[1]), Metrics(), consumers=['mqtt']).append(())\n"
    )
    for n_batches in (1, 2, 3):
        result = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(n_batches)], check=False)
        assert result.returncode == -signal.SIGKILL
    assert [entry[1] for entry in drain(tmp_path)] == [*(one.id for one in waiting), "new"]


def test_damaged_messages(tmp_path: Path) -> None:
    """They are dropped alone."""
    outbox(tmp_path, occurrence("e1"), going_on=[])
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite3")) as db:
        db.execute("UPDATE outbox SET message = 'nonsense' WHERE id = 8")
        db.execute("INSERT INTO open_event VALUES ('x', 'nonsense')")
        db.commit()
    assert [entry[1:] for entry in drain(tmp_path)[:2]] == [("e1", "start"), ("e1", "end")]


def test_an_outbox_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is left where it is, and that is logged; what comes is delivered."""
    noise = os.urandom(10_000)
    (tmp_path / "outbox.sqlite3").write_bytes(noise)
    assert [entry[1:] for entry in drain(tmp_path)] == [("new", "start")]
    assert (tmp_path / "outbox.sqlite3").read_bytes() == noise
    assert caplog.text.count("it is left as it is") == 1


def test_more_than_the_room(tmp_path: Path) -> None:
    """An outbox that is larger than the room that is kept is taken over all the same."""
    waiting = [event("end", event_id=f"e{i:04}") for i in range(5000)]
    outbox(tmp_path, waiting, going_on=[])
    entries = drain(tmp_path, room=Room(reserve=256 << 10, log=512 << 10))
    assert [entry[1] for entry in entries] == [*(one.id for one in waiting), "new"]
