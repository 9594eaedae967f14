"""State topics say what is, never what was."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import date

import pytest

from streamer.language import Names
from streamer.mqtt import states as state
from streamer.mqtt.messages import Message
from streamer.mqtt.states import StateTopics
from streamer.mqtt.topics import Topics
from streamer.types import Hearing, Recurrence, SourcePhase, SourceState
from tests.reports import T0, event, stats

BASE = "streamer/pi"
DOG = f"{BASE}/kitchen/sound/dog_bark"


@pytest.fixture
def states() -> StateTopics:
    """Of one source and one sound."""
    return StateTopics(Topics("streamer", "pi"), ["kitchen"], ["dog_bark"])


def drain(states: StateTopics) -> list[Message]:
    messages = []
    while (message := states.first()) is not None:
        messages.append(message)
        states.done(message)
    return messages


def said(states: StateTopics) -> list[tuple[str, str]]:
    return [(message.topic, message.payload) for message in drain(states)]


def test_everything_is_said_after_a_connection(states: StateTopics) -> None:
    """OFF and offline are said too: what the broker retained may be of another life."""
    states.online()
    first = said(states)
    assert dict(first) == {
        f"{DOG}/attributes": dict(first)[f"{DOG}/attributes"],
        f"{DOG}/state": "OFF",
        f"{BASE}/kitchen/status": "offline",
        f"{BASE}/kitchen/sound/attributes": '{"schema":1,"count_today":0,"first_today":null}',
        f"{BASE}/kitchen/sound/state": "OFF",
        f"{BASE}/status": "online",
    }
    assert said(states) == []
    states.online()
    assert said(states) == first


def test_only_the_newest_is_said(states: StateTopics) -> None:
    """A sound that began and ended unheard was never ON."""
    states.online()
    drain(states)
    states.put(event("start"))
    states.put(event("end"))
    topics = said(states)
    assert [topic for topic, _ in topics] == [
        f"{DOG}/attributes",
        f"{DOG}/state",
        f"{BASE}/kitchen/sound/state",
        f"{BASE}/kitchen/last",
    ]
    assert dict(topics)[f"{DOG}/state"] == "OFF"


def test_attributes_come_before_their_state(states: StateTopics) -> None:
    """Who reacts to ON finds the attributes of this event, whatever had been said before."""
    states.online()
    drain(states)
    states.put(event("start"))
    attributes = states.first()
    assert attributes is not None
    states.done(attributes)
    states.put(event("end", event_id="e2"))
    order = said(states)
    assert [topic for topic, _ in order[:2]] == [f"{DOG}/attributes", f"{DOG}/state"]
    assert json.loads(order[0][1])["id"] == "e2"


def test_what_changed_in_flight_is_still_due(states: StateTopics) -> None:
    """An acknowledgement of ON does not swallow the OFF that came meanwhile."""
    states.online()
    drain(states)
    states.put(event("start"))
    while (message := states.first()) is not None and message.payload != "ON":
        states.done(message)
    assert message is not None
    states.put(event("end"))
    states.done(message)
    assert (f"{DOG}/state", "OFF") in said(states)


def test_what_is_wanted_again_in_flight_is_said_again(states: StateTopics) -> None:
    """Who asks while the answer to another is on its way gets an answer of his own."""
    states.online()
    drain(states)
    states.again(f"{DOG}/state")
    in_flight = states.first()
    assert in_flight is not None
    states.again(f"{DOG}/state")
    states.done(in_flight)
    assert said(states) == [(f"{DOG}/state", "OFF")]
    states.again("streamer/pi/kitchen/nothing")
    assert said(states) == []


def test_an_update_does_not_repeat_on(states: StateTopics) -> None:
    """ON is said once an event, while the attributes follow it."""
    states.online()
    states.put(event("start"))
    drain(states)
    states.put(event("update"))
    assert f"{DOG}/state" not in dict(said(states))


def test_a_source_is_online_while_it_is_listened_to(states: StateTopics) -> None:
    """Waiting, ended and failed are all offline."""
    for phase in ("waiting", "ended", "failed"):
        states.put(SourceState("kitchen", SourcePhase.LISTENING, 0.0))
        assert (f"{BASE}/kitchen/status", "online") in said(states)
        states.put(SourceState("kitchen", phase, 0.0))
        assert (f"{BASE}/kitchen/status", "offline") in said(states)


def test_rest_is_off_and_offline(states: StateTopics) -> None:
    """At a stop nothing stays ON, and the node goes last."""
    states.put(event("start"))
    states.put(SourceState("kitchen", SourcePhase.LISTENING, 0.0))
    states.online()
    drain(states)
    states.rest()
    assert said(states) == [
        (f"{DOG}/state", "OFF"),
        (f"{BASE}/kitchen/sound/state", "OFF"),
        (f"{BASE}/kitchen/status", "offline"),
        (f"{BASE}/status", "offline"),
    ]


def test_levels_are_calm(states: StateTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a steady room a level is published twice a minute; a step of 6 dB is, five seconds apart."""
    drain(states)
    clock = [1000.0]
    monkeypatch.setattr(state.time, "monotonic", lambda: clock[0])
    n = 0
    for second in range(3600):
        clock[0] = 1000.0 + second
        states.put(Hearing("kitchen", 0.0, -40.0 + 2 * (second % 3), {}))
        n += len(said(states))
    assert n == 120
    clock[0] += 5.0
    for level_dbfs in (-20.0, -40.0, -20.0):
        states.put(Hearing("kitchen", 0.0, level_dbfs, {}))
    assert said(states) == [(f"{BASE}/kitchen/level", "-20.0")]
    clock[0] += 5.0
    states.put(Hearing("kitchen", 0.0, -40.0, {}))
    assert said(states) == [(f"{BASE}/kitchen/level", "-40.0")]


def test_what_the_model_hears_is_said_in_words(states: StateTopics) -> None:
    """The strongest three labels, without scores, and no more often than a level; the faint are left out."""
    drain(states)
    top = {"Speech": 0.9, "Dog": 0.5, "Music": 0.2, "Cat": 0.15}
    states.put(Hearing("kitchen", 0.0, -40.0, top))
    states.put(Hearing("kitchen", 0.0, -40.0, {"Cat": 0.9}))
    assert (f"{BASE}/kitchen/labels", "Speech, Dog, Music") in said(states)


def test_the_day_is_counted(states: StateTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event once, in whatever phases it comes, with those before a restart; a new day begins at none."""
    drain(states)
    now = time.time()
    states.count_earlier([("kitchen", "dog_bark", now - 1e-3), ("kitchen", "dog_bark", now - 3 * 86400)])
    for phase in ("start", "update", "end"):
        states.put(replace(event(phase), onset=now))
    topics = dict(said(states))
    for topic in (f"{DOG}/attributes", f"{BASE}/kitchen/sound/attributes"):
        day = json.loads(topics[topic])
        assert day["count_today"] == 2
        assert day["first_today"].startswith("20")
    monkeypatch.setattr(state, "today", lambda: date.fromtimestamp(now + 2 * 86400))
    states.put(stats())
    assert json.loads(dict(said(states))[f"{DOG}/attributes"])["count_today"] == 0


def test_other_sources_and_sounds(states: StateTopics) -> None:
    """What stays keeps its state, unsaid; what is new is OFF and offline; what went is forgotten."""
    states.online()
    states.put(SourceState("kitchen", SourcePhase.LISTENING, 0.0))
    states.put(event("start"))
    drain(states)
    states.change(["kitchen", "hall"], ["dog_bark", "cat"], Names())
    added = dict(said(states))
    assert f"{DOG}/state" not in added
    assert f"{BASE}/kitchen/status" not in added
    assert added[f"{BASE}/hall/status"] == "offline"
    assert added[f"{BASE}/kitchen/sound/cat/state"] == added[f"{BASE}/hall/sound/dog_bark/state"] == "OFF"
    states.change(["hall"], ["cat"], Names())
    assert not [topic for topic in states.retained() if "kitchen" in topic or "dog_bark" in topic]


def test_a_calibrated_level_has_a_topic_of_its_own(states: StateTopics) -> None:
    """DBFS as everywhere, and dB(A) beside it."""
    drain(states)
    states.put(Hearing("kitchen", 0.0, -40.0, {}, level_dba=52.04))
    assert said(states) == [(f"{BASE}/kitchen/level", "-40.0"), (f"{BASE}/kitchen/level_dba", "52.0")]


def test_a_fault_of_the_input_is_a_problem(states: StateTopics) -> None:
    """With its reason before it; and it is over when the input is sound."""
    drain(states)
    states.put(
        SourceState("kitchen", SourcePhase.LISTENING, 0.0, "16000 Hz", "clipping, 3%: turn the gain down")
    )
    told = dict(said(states))
    assert told[f"{BASE}/kitchen/problem"] == "ON"
    assert (
        json.loads(told[f"{BASE}/kitchen/problem/attributes"])["reason"] == "clipping, 3%: turn the gain down"
    )
    states.put(SourceState("kitchen", SourcePhase.LISTENING, 1.0, "16000 Hz"))
    told = dict(said(states))
    assert told[f"{BASE}/kitchen/problem"] == "OFF"
    assert json.loads(told[f"{BASE}/kitchen/problem/attributes"])["reason"] is None


def test_what_is_retained(states: StateTopics) -> None:
    """All but the level is retained, which is known from the start, and what a home acts on has QoS 1."""
    known = states.retained()
    states.online()
    states.put(event("start"))
    states.put(Hearing("kitchen", 0.0, -20.0, {}))
    states.put(SourceState("kitchen", SourcePhase.LISTENING, 0.0))
    states.put(stats())
    assert states.retained() == known
    for message in drain(states):
        assert message.retain == (not message.topic.endswith(("/level", "/labels")))
        assert message.qos == (0 if message.topic.endswith(("/level", "/stats")) else 1)


def test_what_is_overdue() -> None:
    """Nothing is said of it before it is known, lest it flicker at each start; then ON until it is heard."""
    names, expected = Names(), [("kitchen", "dog_bark")]
    states = StateTopics(Topics("streamer", "pi"), ["kitchen"], ["dog_bark"], names, expected)
    states.online()
    assert not any("overdue" in topic for topic, _ in said(states))
    assert {f"{DOG}/overdue", f"{DOG}/overdue/attributes"} <= states.retained()
    found = Recurrence("kitchen", "dog_bark", T0, True, T0 - 90_000, True, 90_000.0, 86_400.0)
    states.put(found)
    attributes, overdue = said(states)
    assert attributes[0] == f"{DOG}/overdue/attributes"
    assert json.loads(attributes[1])["listened_h"] == 25
    assert overdue == (f"{DOG}/overdue", "ON")
    states.put(replace(found, listened_s=90_060.0))
    assert said(states) == []
    states.put(replace(found, is_overdue=False, listened_s=0.0))
    assert said(states)[-1] == (f"{DOG}/overdue", "OFF")
    states.put(replace(found, sound="cat"))
    assert said(states) == []
    states.change(["kitchen"], ["dog_bark"], names)
    assert not any("overdue" in topic for topic in states.retained())
