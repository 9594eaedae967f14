"""`streamer replay`, `curve`, `explain --at`: over what a real daemon has heard, kept and emitted."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.cli.command import streamer
from tests.faults.program import watched, write
from tests.faults.test_history import BEEPS
from tests.web.site import served

pytestmark = pytest.mark.slow


def test_what_a_daemon_has_heard(tmp_path: Path) -> None:
    """With its configuration exactly its events, across a restart; fewer with a higher threshold; and why."""
    config = write(
        tmp_path,
        {"room": {"command": [sys.executable, "-c", BEEPS]}},
        detection={"on": 0.2, "merge_gap_s": 0.2},
        store={"min_free_mb": 0},
    )
    for _ in range(2):
        with watched(config, {}, tmp_path) as program:
            for _ in range(2):
                program.says("room: smoke_alarm ended", len(program.daemon.lines))
            assert program.daemon.stop() == 0
    events = [json.loads(line) for line in streamer(tmp_path, "events", "--json").splitlines()]
    assert len(events) >= 4

    same = json.loads(streamer(tmp_path, "replay", "--config", str(config), "--last", "1h", "--json"))
    assert (same["same"], same["new"], same["gone"], same["not_in_log"]) == (len(events), [], [], 0)
    said = streamer(tmp_path, "replay", "--config", str(config), "--last", "1h")
    assert f"{len(events)} the same, 0 new, 0 gone" in said

    strict = tmp_path / "strict.yaml"
    settings = yaml.safe_load(config.read_text())
    strict.write_text(yaml.safe_dump(settings | {"detection": {"on": 0.9}}))
    other = json.loads(streamer(tmp_path, "replay", "--config", str(strict), "--last", "1h", "--json"))
    assert (other["same"], len(other["gone"])) == (0, len(events))
    assert f"{events[0]['id']}" in streamer(tmp_path, "replay", "--config", str(strict))

    tried = streamer(tmp_path, "replay", "-c", str(config), "--threshold", "smoke_alarm=0.9", "--json")
    assert json.loads(tried)["gone"] == other["gone"]
    for wrong in ("smoke_alarm=2", "smoke_alarm", "cat=0.5"):
        streamer(tmp_path, "replay", "-c", str(config), "--threshold", wrong, fails=64)

    with served(tmp_path) as site:
        job = site.ask("POST", "/api/1/replay", body={"thresholds": {"smoke_alarm": 0.9}}).fields["job"]
        deadline = time.monotonic() + 60
        while (trial := site.get(f"replay/{job}"))["state"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert (trial["found"]["same"], trial["found"]["gone"]) == (0, len(events))
    assert [one["id"] for one in trial["found"]["gone_events"]] == [one["id"] for one in events]
    assert trial["progress"] > 0.9

    streamer(tmp_path, "events", "review", events[0]["id"], "wrong")
    points = json.loads(streamer(tmp_path, "curve", "smoke_alarm", "-c", str(config), "--json"))["points"]
    at_02 = next(point for point in points if point["on"] == 0.2)
    assert (at_02["reviewed"], at_02["false_alarms_a_day"]) == (1, at_02["events_a_day"])
    assert points[-1]["events_a_day"] == 0
    assert "false alarms a day" in streamer(tmp_path, "curve", "smoke_alarm", "-c", str(config))

    why = ("explain", "--sound", "smoke_alarm", "--config", str(config), "--at")
    assert f"event {events[1]['id']}" in streamer(tmp_path, *why, _middle(events[1]))
    explained = json.loads(streamer(tmp_path, *why, _middle(events[1]), "--json"))
    assert (explained["source"], explained["events"]) == ("room", [events[1]["id"]])
    assert explained["lines"][-1][0] == "decided by"
    assert "no scores were kept of that moment" in streamer(tmp_path, *why, "2026-01-01 00:00", fails=66)
    assert "is no time" in streamer(tmp_path, *why, "noon", fails=64)

    calibrate = ("calibrate", "--per-day", "1", "-c", str(config))

    def smoke_alarm() -> dict[str, object]:
        rows = json.loads(streamer(tmp_path, *calibrate, "--json"))
        return next(row for row in rows if row["sound"] == "smoke_alarm")

    before = smoke_alarm()
    assert (before["source"], before["on"]) == ("room", 0.2)
    assert float(str(before["proposed"])) > 0.2  # its one review says that it was wrong
    assert "in force from the next start on" in streamer(tmp_path, *calibrate, "--apply")
    assert smoke_alarm()["on"] == before["proposed"]

    assert "scores    room" in streamer(tmp_path, "store", "show")
    assert "the scores of" in streamer(tmp_path, "forget", "--all")
    assert "there are scores of none" in streamer(tmp_path, *why, _middle(events[1]), fails=64)


def _middle(event: dict[str, str]) -> str:
    """Of an event, as its times are written: UTC."""
    times = [
        time.mktime(time.strptime(event[name][:19], "%Y-%m-%dT%H:%M:%S")) for name in ("onset", "offset")
    ]
    millis = [float(event[name][19:-1]) for name in ("onset", "offset")]
    middle = (sum(times) + sum(millis)) / 2
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(middle)) + f"{middle % 1:.3f}"[1:] + "+00:00"
