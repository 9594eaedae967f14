"""Lines for a pipe or the journal."""

from __future__ import annotations

import logging

import pytest

from streamer.sinks.logger import LogSink
from streamer.types import Hearing, Recurrence, SourceState
from tests.reports import event, stats


def test_a_line_for_what_matters(caplog: pytest.LogCaptureFixture) -> None:
    """Events begin and end in the log, sources come and go; hops, updates and statistics leave no line."""
    caplog.set_level(logging.INFO)
    sink = LogSink()
    sink.put(SourceState("kitchen", "listening", 0.0, "USB Microphone, 48000 Hz"))
    sink.put(event("start"))
    for _ in range(100):
        sink.put(Hearing("kitchen", 0.0, -30.0, {"Dog": 0.9}))
    sink.put(event("update"))
    sink.put(stats())
    sink.put(event("end"))
    sink.put(SourceState("kitchen", "waiting", 0.0, "the device is gone"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "kitchen: listening (USB Microphone, 48000 Hz)"),
        ("INFO", "kitchen: dog_bark began (score 0.91, -31 dBFS, latency 0.6 s)"),
        ("INFO", "kitchen: dog_bark ended after 2.5 s (peak 0.93, -31 dBFS)"),
        ("WARNING", "kitchen: waiting (the device is gone)"),
    ]


def test_what_is_overdue_is_a_line_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each minute says it anew, the log when it begins and when it ends."""
    caplog.set_level(logging.INFO)
    sink = LogSink()
    for is_overdue in (False, True, True, False, False):
        sink.put(Recurrence("cellar", "washer", 0.0, is_overdue, -90_000.0, True, 90_000.0, 86_400.0))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "cellar: washer is overdue: not heard in 25 h of listening"),
        ("INFO", "cellar: washer is not overdue any more"),
    ]
