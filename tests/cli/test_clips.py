"""Clips of a real daemon: none unless they are switched on, none of speech, and where they are."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.capture.stream import read_file
from tests.cli.command import streamer
from tests.faults.program import watched, write
from tests.faults.test_history import BEEPS

pytestmark = pytest.mark.slow

CLIPS = {"enabled": True, "before_s": 0.5, "after_s": 0.3, "longest_s": 2}


def run(folder: Path, state: str, clips: dict[str, Any]) -> list[dict[str, Any]]:
    """Listen to beeps of a second until clips are in that state; what the history says then."""
    config = write(
        folder,
        {"room": {"command": [sys.executable, "-c", BEEPS]}},
        detection={"on": 0.2, "merge_gap_s": 0.2},
        store={"min_free_mb": 0},
        clips=clips,
    )
    with watched(config, {}, folder) as program:
        program.says("room: smoke_alarm ended", 0)
        deadline = time.monotonic() + 60
        while state not in (states := [event["clip"] for event in listed(folder)][1:]):
            assert time.monotonic() < deadline, states
            time.sleep(0.5)
        assert program.daemon.stop() == 0
    return listed(folder)


def listed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in streamer(folder, "events", "--json").splitlines()]


def test_no_sample_is_written_unless_clips_are_on(tmp_path: Path) -> None:
    """Nor where the model, which here hears speech in all that is loud, hears speech."""
    run(tmp_path, "none", {})
    run(tmp_path, "speech", CLIPS)
    magic = (b"fLaC", b"RIFF", b"OggS")
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and any(m in p.read_bytes() for m in magic)]


def test_a_clip(tmp_path: Path) -> None:
    """It has the beep, and what was before, where the history says; `forget` deletes it."""
    events = run(tmp_path, "kept", CLIPS | {"speech": "keep"})
    event = next(one for one in reversed(events) if one["clip"] == "kept")
    shown = streamer(tmp_path, "events", "show", event["id"])
    (line,) = (line for line in shown.splitlines() if line.startswith("  clip"))
    path = Path(line.split()[1].rstrip(","))
    samples, rate = read_file(path)
    assert path.stat().st_size == event["clip_bytes"]
    onset = float(line.split("the event from ")[1].split()[0])
    # Before a beep there is a second of silence; the engine of the tests says to a quarter when it began.
    (loud,) = np.nonzero(np.abs(samples) > 0.1)
    assert loud[0] / rate == pytest.approx(onset, abs=0.3)
    assert 0 <= onset < len(samples) / rate
    assert "clip" in streamer(tmp_path, "events")
    streamer(tmp_path, "forget", "--all")
    assert not path.exists()
