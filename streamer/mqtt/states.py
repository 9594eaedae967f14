"""The present message of each state topic, and which of them the broker does not have yet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from streamer.config.control import Control
from streamer.mqtt.messages import (
    Message,
    attributes_message,
    encode,
    event_message,
    level_dba_payload,
    level_payload,
    problem_message,
    stats_message,
)
from streamer.mqtt.topics import Topics
from streamer.types import Hearing, Report, SoundEvent, SourceState, Stats

LEVEL_PACE_S = 5.0
"""seconds between two levels of a source"""
LEVEL_STEP_DB = 3.0
"""a larger change is published at once"""


class StateTopics:
    """One message a topic, the newest: nothing is queued, so after an outage no old state is published.

    Has no connection: `first` is due until it is `done`, and `online` makes all of them due again.
    """

    def __init__(self, topics: Topics, sources: Iterable[str], sounds: Iterable[str]) -> None:
        self._topics = topics
        self._sources = tuple(sources)
        self._sounds = tuple(sounds)
        self._now: dict[str, Message] = {}
        self._due: dict[str, None] = {}
        self._levels: dict[str, tuple[float, float]] = {}
        for source in self._sources:
            for sound in self._sounds:
                attributes = encode(attributes_message(None))
                self._set(topics.sound_attributes(source, sound), attributes, qos=1, retain=True)
        self.rest()

    def put(self, report: Report) -> None:
        """Update the topics that a report changes."""
        match report:
            case SoundEvent():
                self._put_event(report)
            case SourceState():
                is_heard = report.phase in ("listening", "silent")
                self._put_status(self._topics.source_status(report.source_id), online=is_heard)
                message = problem_message(report)
                attributes = self._topics.problem_attributes(report.source_id)
                self._set(attributes, encode(message), qos=1, retain=True)
                problem = "OFF" if message["reason"] is None else "ON"
                self._set(self._topics.problem(report.source_id), problem, qos=1, retain=True)
            case Hearing():
                self._put_level(report)
            case Stats():
                stats = encode(stats_message(report, self._topics.node))
                self._set(self._topics.stats, stats, qos=0, retain=True)

    def put_control(self, control: Control, source: str) -> None:
        """Update the topics of what is in force for a source."""
        listen = "ON" if control.listens(source) else "OFF"
        self._set(self._topics.listen(source, "state"), listen, qos=1, retain=True)
        self._set(self._topics.profile(source, "state"), control.profile(source), qos=1, retain=True)
        for sound in control.sounds:
            on = f"{control.threshold(source, sound):g}"
            self._set(self._topics.threshold(source, sound, "state"), on, qos=1, retain=True)

    def again(self, topic: str) -> None:
        """Publish a topic again although its value did not change."""
        if topic in self._now:
            # An equal message, but another one: `done` of one that may be in flight does not count for it.
            self._now[topic] = Message(*self._now[topic])
            self._due[topic] = None

    def retained(self) -> set[str]:
        """Every topic that has a retained message of ours, or will have one."""
        sent = {topic for topic, message in self._now.items() if message.retain}
        later = [
            f(source)
            for f in (self._topics.last, self._topics.problem, self._topics.problem_attributes)
            for source in self._sources
        ]
        return sent.union(later, [self._topics.stats])

    def online(self) -> None:
        """The node is online, and all topics are due: what the broker has retained may be stale."""
        self._put_status(self._topics.status, online=True)
        self._due = dict.fromkeys(self._now)

    def rest(self) -> None:
        """Everything OFF and offline: the state before the first report and after the last."""
        for source in self._sources:
            for sound in self._sounds:
                self._set(self._topics.sound_state(source, sound), "OFF", qos=1, retain=True)
            self._put_status(self._topics.source_status(source), online=False)
        self._put_status(self._topics.status, online=False)

    def first(self) -> Message | None:
        """The next message that is due."""
        return self._now[next(iter(self._due))] if self._due else None

    def done(self, message: Message) -> None:
        """The broker has it. Where the topic has another message by now, that one stays due."""
        if self._now[message.topic] is message:
            self._due.pop(message.topic, None)

    def _put_event(self, event: SoundEvent) -> None:
        source, sound = event.source_id, event.sound
        if source not in self._sources or sound not in self._sounds:
            return  # the end of a sound that is no longer configured
        attributes = encode(attributes_message(event))
        self._set(self._topics.sound_attributes(source, sound), attributes, qos=1, retain=True)
        state = "OFF" if event.phase == "end" else "ON"
        self._set(self._topics.sound_state(source, sound), state, qos=1, retain=True)
        last = encode(event_message(event, self._topics.node))
        self._set(self._topics.last(source), last, qos=1, retain=True)

    def _put_status(self, topic: str, *, online: bool) -> None:
        self._set(topic, "online" if online else "offline", qos=1, retain=True)

    def _put_level(self, hearing: Hearing) -> None:
        now = time.monotonic()
        sent_at, sent_dbfs = self._levels.get(hearing.source_id, (-math.inf, 0.0))
        if now - sent_at < LEVEL_PACE_S and abs(hearing.level_dbfs - sent_dbfs) < LEVEL_STEP_DB:
            return
        self._levels[hearing.source_id] = (now, hearing.level_dbfs)
        level = level_payload(hearing.level_dbfs)
        self._set(self._topics.level(hearing.source_id), level, qos=0, retain=False)
        if hearing.level_dba is not None:
            level_dba = level_dba_payload(hearing.level_dba)
            self._set(self._topics.level_dba(hearing.source_id), level_dba, qos=0, retain=False)

    def _set(self, topic: str, payload: str, *, qos: int, retain: bool) -> None:
        message = Message(topic, payload, qos, retain)
        if self._now.get(topic) == message and retain:
            return
        self._now[topic] = message
        # To the end of the order, also where it was due already: attributes go before the state they explain.
        self._due.pop(topic, None)
        self._due[topic] = None
