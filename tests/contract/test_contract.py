"""The messages that the program makes are those of the contract."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import ValidationError

from streamer.mqtt.messages import (
    Today,
    any_sound_message,
    attributes_message,
    encode,
    event_message,
    level_payload,
    overdue_message,
    stats_message,
)
from streamer.mqtt.topics import Topics
from streamer.types import Recurrence, SoundEvent
from tests.contract.wire import check
from tests.reports import T0, event, events, stats

TOPICS = Topics("streamer", "home")


@settings(deadline=None)
@given(events(), st.floats(min_value=0, max_value=1e7))
def test_every_event_keeps_the_contract(any_event: SoundEvent, delayed_s: float) -> None:
    """Whatever the pipeline says, the message of it has the fields and values of the contract."""
    payload = encode(event_message(any_event, "home", delayed_s=delayed_s))
    check(TOPICS.event(any_event.source_id, any_event.phase), payload)
    check(TOPICS.last(any_event.source_id), payload)


@settings(deadline=None)
@given(events())
def test_attributes_keep_the_contract(any_event: SoundEvent) -> None:
    """The attributes of a sound have the same fields before, during and after an event."""
    topic = TOPICS.sound_attributes(any_event.source_id, any_event.sound)
    check(topic, encode(attributes_message(any_event)))
    check(topic, encode(attributes_message(None)))
    assert attributes_message(any_event).keys() == attributes_message(None).keys()


@settings(deadline=None)
@given(st.floats(max_value=10) | st.just(float("nan")))
def test_levels_keep_the_contract(level_dbfs: float) -> None:
    """A level is a number, also where the logarithm is none."""
    check(TOPICS.level("kitchen"), level_payload(level_dbfs))


def test_the_day_of_a_source_keeps_the_contract() -> None:
    """A number, and a time or null, of any sound as of one."""
    for today in (Today(), Today(3, 1_790_000_000.0)):
        check(TOPICS.any_sound_attributes("kitchen"), encode(any_sound_message(today)))
        check(TOPICS.sound_attributes("kitchen", "cat"), encode(attributes_message(None, today)))


@pytest.mark.parametrize("note", ["", "switched off"])
def test_what_is_overdue_keeps_the_contract(note: str) -> None:
    """Times, hours, and a reason or null."""
    found = Recurrence("kitchen", "washer", T0, not note, T0 - 90_000, True, 90_000.0, 86_400.0, note)
    message = overdue_message(found)
    check(TOPICS.overdue_attributes("kitchen", "washer"), encode(message))
    assert (message["listened_h"], message["every_h"], message["note"]) == (25, 24, note or None)


def test_stats_keep_the_contract() -> None:
    """The statistics are those of the contract, all of them."""
    check(TOPICS.stats, encode(stats_message(stats(), "home")))


@pytest.mark.parametrize("change", [{"extra": 1}, {"onset": 12.5}, {"score": 1.5}, {"phase": "begin"}])
def test_the_contract_refuses_what_it_does_not_know(change: dict[str, object]) -> None:
    """The schemas are strict: one unknown field or value is a breach."""
    message = event_message(event(), "home") | change
    with pytest.raises(ValidationError):
        check(TOPICS.event("kitchen", "start"), json.dumps(message))
