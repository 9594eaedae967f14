"""Payloads from values."""

from __future__ import annotations

import dataclasses
import json

import pytest

from streamer.mqtt.messages import attributes_message, encode, event_message
from tests.reports import T0, event


def test_an_event_in_full() -> None:
    """Times are UTC with milliseconds, the duration is known at the end, the latency is the message's."""
    assert event_message(event("end"), "home", delayed_s=12.34) == {
        "schema": 1,
        "id": "e1",
        "node": "home",
        "source": "kitchen",
        "epoch": None,
        "sound": "dog_bark",
        "source_name": "Kitchen",
        "sound_name": "Dog bark",
        "phase": "end",
        "onset": "2026-09-21T14:13:20.000Z",
        "offset": "2026-09-21T14:13:22.500Z",
        "duration_s": 2.5,
        "peak": 0.93,
        "labels": {"Dog": 0.7, "Bark": 0.93},
        "level_dbfs": -31.3,
        "score": 0.4,
        "verified": None,
        "notify": True,
        "priority": "normal",
        "emitted_at": "2026-09-21T14:13:24.000Z",
        "latency_ms": 600,
        "delayed_s": 12.3,
    }


def test_before_the_end_there_is_no_offset() -> None:
    """While a sound goes on nobody knows how long it will have been."""
    message = event_message(event("start"), "home")
    assert message["offset"] is None
    assert message["duration_s"] is None


def test_times_counted_from_an_origin() -> None:
    """With an origin the times are seconds from it, and nothing else differs."""
    wall = event_message(event("end"), "home")
    relative = event_message(event("end"), "home", origin=T0 - 1)
    assert relative == wall | {"onset": 1.0, "offset": 3.5, "emitted_at": 5.0}


def test_milliseconds_are_rounded_not_cut() -> None:
    """What is 0.1 µs short of a millisecond is that millisecond, in either way to write a time."""
    late = dataclasses.replace(event(), onset=T0 + 0.1239999)
    assert event_message(late, "home")["onset"] == "2026-09-21T14:13:20.124Z"
    assert event_message(late, "home", origin=T0)["onset"] == 0.124


def test_json_never_has_nan() -> None:
    """NaN and infinity are not JSON: scores become 0, levels silence, and nothing else can bring one in."""
    broken = dataclasses.replace(event(), peak=float("nan"), score=float("inf"), level_dbfs=float("-inf"))
    message = json.loads(encode(event_message(broken, "home")))
    assert (message["peak"], message["score"], message["level_dbfs"]) == (0.0, 0.0, -120.0)
    with pytest.raises(ValueError, match="JSON"):
        encode({"value": float("nan")})


def test_attributes_before_the_first_event_are_empty() -> None:
    """A template that reads an attribute finds it, with no value."""
    message = attributes_message(None)
    assert message.pop("schema") == 1
    assert message.pop("count_today") == 0
    assert set(message.values()) == {None}
