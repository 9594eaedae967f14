"""Events as text and back, also from other versions of the program."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields

import pytest
from hypothesis import given

from streamer.mqtt.messages import encode, event_message
from streamer.store.codec import NOT_AS_WRITTEN, decode_event, encode_event, event_of_message
from streamer.types import SoundEvent
from tests.reports import event, events, occurrence


@given(events())
def test_every_event_comes_back(any_event: SoundEvent) -> None:
    """Bit by bit where its values are numbers; its message is the same in any case."""
    back = decode_event(encode_event(any_event))
    assert event_message(back, "pi") == event_message(any_event, "pi")
    numbers = (any_event.peak, any_event.score, any_event.level_dbfs, *any_event.labels.values())
    if all(math.isfinite(number) for number in numbers):
        assert back == any_event


@pytest.mark.parametrize("one", occurrence("e1"))
def test_the_event_of_a_message(one: SoundEvent) -> None:
    """What version 0.1 has stored of an event says the same as the event."""
    back = event_of_message(json.loads(encode(event_message(one, "pi"))))
    assert event_message(back, "pi") == event_message(one, "pi")


@pytest.mark.parametrize("missing", [field.name for field in fields(SoundEvent)])
def test_a_field_that_was_added_since(missing: str) -> None:
    """An event that was written without it is read; only what names it, and its onset, must be there."""
    values = asdict(event("update"))
    del values[missing]
    if missing in ("id", "source_id", "sound", "phase", "onset"):
        with pytest.raises(NOT_AS_WRITTEN):
            decode_event(json.dumps(values))
    else:
        assert decode_event(json.dumps(values)).id == "e1"


def test_a_field_that_is_gone() -> None:
    """What another version knew of an event besides is left out."""
    assert decode_event(json.dumps({**asdict(event("end")), "colour": "red"})) == event("end")
