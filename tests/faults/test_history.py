"""The history of a daemon that is killed while events arrive, with MQTT off, and one of a million events."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamer.metrics import Metrics
from streamer.store.log import Log, Recorded
from streamer.store.query import reading
from tests.cli.command import streamer
from tests.faults.program import QUICK, watched, write
from tests.faults.table import FAULTS, Fault
from tests.store.test_query import MODEL, many

pytestmark = pytest.mark.slow

CYCLES = int(os.environ.get("FAULTS_CYCLES", "10"))
KILLS = CYCLES // 50 or 3
N_EVENTS = 1000 * CYCLES
GROUP = 5000
BEEPS = """
import array, sys, time
while True:
    for peak in [9000] * 10 + [0] * 10:
        sys.stdout.buffer.write(array.array('h', [peak, -peak] * 800).tobytes())
        sys.stdout.flush()
        time.sleep(0.1)
"""
"""a second of sound, one of silence"""


def events(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in streamer(state, "events", "--last", "all", "--json").splitlines()]


def assert_second_is_refused(config: Path, state: Path) -> None:
    """Another daemon with the same state ends at once, and says who has it."""
    began = time.monotonic()
    second = subprocess.run(
        [sys.executable, "-m", QUICK, "run", "--config", str(config)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "STATE_DIRECTORY": str(state)},
    )
    assert (second.returncode, "process" in second.stderr) == (78, True), second.stderr
    noticed_s = time.monotonic() - began
    FAULTS.append(Fault("second daemon with the same state: exit 78", noticed_s))


def test_kills_leave_a_whole_history(tmp_path: Path) -> None:
    """Every event that the program has logged is in the history; none stays open; the file is whole."""
    source = {"command": [sys.executable, "-c", BEEPS]}
    config = write(tmp_path, {"room": source}, detection={"on": 0.2, "merge_gap_s": 0.2})
    rng = random.Random(1)
    began = n_ended = 0
    for kill in range(KILLS + 1):
        with watched(config, {}, tmp_path) as program:
            program.says("room: smoke_alarm began", 0)
            if kill == KILLS:
                assert_second_is_refused(config, tmp_path)
                program.says("room: smoke_alarm ended", 0)
                assert program.daemon.stop() == 0
            else:
                time.sleep(rng.uniform(0, 3))
                program.daemon.process.send_signal(signal.SIGKILL)
                program.daemon.wait()
            began += sum("smoke_alarm began" in line for line in program.daemon.lines)
            n_ended += sum("left open by a crash" in line for line in program.daemon.lines)
        assert streamer(tmp_path, "store", "check").endswith("whole\n")
    found = events(tmp_path)
    assert len(found) >= began
    assert [one for one in found if one["offset"] is None] == []
    assert sum(one["is_cut"] for one in found) == n_ended
    assert all(one["rule"]["on"] == 0.2 and one["model"] == "ast-tiny" for one in found)
    FAULTS.append(Fault(f"daemon killed while events arrive ({KILLS} times)", lost="no event of the history"))


def test_a_walk_through_a_long_history(tmp_path: Path) -> None:
    """Page after page to its end: every event that was there once, while others are appended."""
    events = many(N_EVENTS)
    log = Log(tmp_path, Metrics(), model=MODEL)
    for first in range(0, N_EVENTS, GROUP):
        log.append([Recorded(one) for one in events[first : first + GROUP]])
    late = [replace(one, id=f"late {n}") for n, one in enumerate(many(2 * N_EVENTS // 500, seed=2))]
    found, after = list[str](), None
    with reading(tmp_path) as reader:
        while True:
            page = reader.page(after=after, n=500)
            found += [one.id for one in page.events]
            if (after := page.next) is None:
                break
            if late:
                log.append([Recorded(late.pop())])
    log.close()
    there = {one.id for one in events}
    assert sum(event_id in there for event_id in found) == N_EVENTS
    assert len(set(found)) == len(found) >= N_EVENTS
    assert there <= set(found)
