"""`streamer events`, `forget` and `store`: the real command, beside a log that is in use and without one."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.metrics import Metrics
from streamer.store.history import Model
from streamer.store.layouts import FILE
from streamer.store.log import Log, Recorded
from streamer.types import SoundEvent
from tests.cli.command import streamer
from tests.reports import event, occurrence

pytestmark = pytest.mark.slow


def recent(event_id: str, sound: str, ago_s: float) -> list[SoundEvent]:
    onset = time.time() - ago_s
    return [
        replace(
            one,
            sound=sound,
            onset=onset,
            offset=None if one.offset is None else onset + 2.5,
            heard_at=onset + 3.4,
            emitted_at=onset + 4,
        )
        for one in occurrence(event_id)
    ]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """A dog an hour ago, a doorbell two days ago, a siren that goes on; in use by this process."""
    event_log = Log(tmp_path, Metrics(), consumers=["mqtt"], model=Model("ast-tiny", ("Dog",)))
    rule = json.dumps({"on": 0.66, "off": 0.33, "confirm": 1, "merge_gap_s": 2.0, "verify": "none"})
    event_log.append([Recorded(one, rule) for one in recent("d0d0d0000001", "dog_bark", 3600)])
    event_log.append([Recorded(one) for one in recent("be11be000002", "doorbell", 2 * 86400)])
    event_log.append([Recorded(one) for one in recent("51e5e4000003", "siren", 60)[:1]])
    yield event_log
    event_log.close()


@pytest.mark.usefixtures("log")
def test_what_happened(tmp_path: Path) -> None:
    """Newest first, of the last day unless more is asked for; filters hold; nothing is said in words."""
    lines = streamer(tmp_path, "events").splitlines()
    assert [line.split()[3] for line in lines] == ["siren", "dog_bark"]
    assert "goes on" in lines[0]
    assert lines[1].split()[4:] == ["2.5", "s", "0.93", "-31", "dBFS", "d0d0d0000001"]
    assert streamer(tmp_path, "events", "--last", "all", "--sound", "doorbell").count("\n") == 1
    assert (
        streamer(tmp_path, "events", "--last", "7d", "-n", "1").splitlines()[1].startswith("and older ones")
    )
    assert streamer(tmp_path, "events", "--source", "hall") == (
        "nothing was heard in the last 24h; --last all shows all\n"
    )


@pytest.mark.usefixtures("log")
def test_what_happened_for_programs(tmp_path: Path) -> None:
    """JSON has all fields, times in UTC; a CSV cell never begins a formula."""
    (dog,) = map(json.loads, streamer(tmp_path, "events", "--sound", "dog_bark", "--json").splitlines())
    assert (dog["id"], dog["source"], dog["peak"], dog["model"]) == (
        "d0d0d0000001",
        "kitchen",
        0.93,
        "ast-tiny",
    )
    assert dog["rule"]["on"] == 0.66
    assert dog["onset"].endswith("Z")
    streamer(tmp_path, "events", "review", "d0d0", "right", "--note", "=cmd|' /C calc'!A0")
    (row,) = csv.DictReader(io.StringIO(streamer(tmp_path, "events", "--sound", "dog_bark", "--csv")))
    assert (row["id"], row["verdict"], row["note"]) == ("d0d0d0000001", "right", "'=cmd|' /C calc'!A0")


@pytest.mark.usefixtures("log")
def test_a_review(tmp_path: Path) -> None:
    """It stands with the event at once, is listed with those before, and can be taken back."""
    streamer(tmp_path, "events", "review", "d0d0d", "right")
    said = streamer(
        tmp_path, "events", "review", "d0d0d", "wrong", "--sound", "door_knock", "--note", "\x1b[31m"
    )
    assert said.rstrip().endswith("wrong it was door_knock")
    shown = streamer(tmp_path, "events", "show", "d0d0d")
    assert "rules     on 0.66, off 0.33, confirm 1, merge_gap_s 2.0" in shown
    assert "ended" in shown
    assert shown.count("review") == 2
    assert "\x1b" not in shown
    assert streamer(tmp_path, "events", "--verdict", "wrong").count("\n") == 1
    assert streamer(tmp_path, "events", "--verdict", "none").count("\n") == 1
    streamer(tmp_path, "events", "review", "d0d0d", "undo")
    assert streamer(tmp_path, "events", "--verdict", "none").count("\n") == 2
    for arguments, fails in (
        (("review", "d0d0d", "perhaps"), 64),
        (("review", "d0d0d", "right", "--sound", "x"), 64),
        (("review", "ffff", "right"), 66),
        (("show", "ffff"), 66),
    ):
        streamer(tmp_path, "events", *arguments, fails=fails)


@pytest.mark.usefixtures("log")
def test_what_was_missed(tmp_path: Path) -> None:
    """A report says what, where and when, in local time; it is listed."""
    said = streamer(
        *(tmp_path, "events", "missed", "doorbell", "--source", "hall"),
        *("--at", "2026-11-27 20:14:05", "--lasting", "3s"),
    )
    assert said == "noted: doorbell at hall, 2026-11-27 20:14:05\n"
    assert streamer(tmp_path, "events", "missed").split()[:4] == [
        "2026-11-27",
        "20:14:05",
        "hall",
        "doorbell",
    ]
    streamer(tmp_path, "events", "missed", "doorbell", fails=64)
    streamer(tmp_path, "events", "missed", "doorbell", "--source", "hall", "--at", "noon", fails=64)


def test_clips_for_training(tmp_path: Path, log: Log) -> None:
    """Right ones under their sound, wrong ones under what they were, or under `other`; no other ones."""
    log.append([Recorded(event("end", event_id=f"{number:012x}")) for number in range(4)])
    out = tmp_path / "clips of home"
    assert "was reviewed" in streamer(tmp_path, "events", "export", "--audio", str(out), fails=66)
    for event_id, *verdict in (
        ("0" * 12, "right"),
        ("0" * 11 + "1", "wrong"),
        ("0" * 11 + "2", "wrong", "--sound", "cat"),
    ):
        streamer(tmp_path, "events", "review", event_id, *verdict)
    assert "has a clip" in streamer(tmp_path, "events", "export", "--audio", str(out), fails=66)
    day = tmp_path / "clips" / "2026-09-21"
    day.mkdir(parents=True)
    database = log._database
    assert database is not None
    for number in range(4):
        (day / f"{number:012x}.flac").write_bytes(b"fLaC%d" % number)
        database.connection.execute("UPDATE event SET clip = 'kept' WHERE id = ?", (f"{number:012x}",))
    assert streamer(tmp_path, "events", "export", "--audio", str(out)).split() == [
        *("cat", "1", "dog_bark", "1", "other", "1")
    ]
    assert {str(path.relative_to(out)) for path in out.rglob("*.flac")} == {
        *(f"dog_bark/{0:012x}.flac", f"other/{1:012x}.flac", f"cat/{2:012x}.flac")
    }
    assert streamer(tmp_path, "events", "pin", "0" * 12).split()[-2:] == ["pinned", "right"]
    database.connection.execute("UPDATE event SET clip_start = onset - 3, clip_end = onset + 4.5")
    shown = streamer(tmp_path, "events", "show", "0" * 12)
    assert f"{0:012x}.flac, 7.5 s, the event from 3.00 s on, 0 kB, pinned" in shown
    assert ", 4 clips, " in streamer(tmp_path, "forget", "--all")
    assert not list(tmp_path.glob("clips/*/*"))


@pytest.mark.usefixtures("log")
def test_forget(tmp_path: Path) -> None:
    """What was heard is gone, of the time or source that is named; what goes on stays."""
    streamer(tmp_path, "forget", fails=64)
    streamer(tmp_path, "forget", "--last", "1h", "--all", fails=64)
    assert streamer(tmp_path, "forget", "--all", "--source", "hall").startswith("forgotten: 0 events")
    assert streamer(tmp_path, "forget", "--last", "2h").startswith("forgotten: 1 events, 3 messages")
    assert streamer(tmp_path, "events", "--last", "all").count("\n") == 2
    assert streamer(tmp_path, "forget", "--all").startswith("forgotten: 1 events, 3 messages")
    assert [line.split()[3] for line in streamer(tmp_path, "events").splitlines()] == ["siren"]


def test_the_store(tmp_path: Path, log: Log) -> None:
    """What it holds, what waits, what was refused or set aside; a check; a copy that can be read."""
    (first,) = log.read("mqtt", 1)
    log.refuse("mqtt", first, "the broker refuses it (Not authorized)")
    log.deliver({"mqtt": (first.seq, 1)})
    (tmp_path / f"{FILE}.damaged-1").touch()
    said = streamer(tmp_path, "store", "show")
    assert "3, from" in said
    assert "mqtt      6 messages wait" in said
    assert "kitchen/event/start  dog_bark: the broker refuses it (Not authorized)" in said
    assert f"{FILE}.damaged-1" in said
    contents = json.loads(streamer(tmp_path, "store", "show", "--json"))
    assert (contents["waiting"], len(contents["refused"])) == ({"mqtt": 6}, 1)
    assert streamer(tmp_path, "store", "check").endswith("whole\n")
    copy = tmp_path / "copy" / FILE
    copy.parent.mkdir()
    streamer(tmp_path, "store", "backup", str(copy))
    assert "is there already" in streamer(tmp_path, "store", "backup", str(copy), fails=66)
    assert streamer(copy.parent, "events", "--last", "all").count("\n") == 3
    with copy.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(4096))
    assert "damaged" in streamer(copy.parent, "store", "check", fails=70)


def test_where_there_is_none(tmp_path: Path) -> None:
    """One line, and the exit code of an input that is not there."""
    for arguments in (
        ("events",),
        ("events", "show", "x"),
        ("store", "show"),
        ("store", "check"),
        ("forget", "--all"),
    ):
        assert "there is no history" in streamer(tmp_path, *arguments, fails=66)
