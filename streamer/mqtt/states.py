"""The present message of each state topic, and which of them the broker does not have yet."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from datetime import date, datetime

from streamer.config.control import Control
from streamer.language import Names
from streamer.mqtt.claims import Claims
from streamer.mqtt.messages import (
    DEFAULT_NAMES,
    SCHEMA,
    Message,
    Today,
    any_sound_message,
    attributes_message,
    encode,
    event_message,
    level_dba_payload,
    level_payload,
    overdue_message,
    problem_message,
    stats_message,
)
from streamer.mqtt.topics import Topics
from streamer.types import Hearing, Recurrence, Report, SoundEvent, SourcePhase, SourceState, Stats

LEVEL_PACE_S = 30.0
"""seconds between two levels of a source: each is a row in the database of a home"""
LEVEL_STEP_DB = 6.0
"""a larger change is published sooner, though not within LEVEL_LEAST_S"""
LEVEL_LEAST_S = 5.0
LABELS_SHOWN = 3
LABEL_LEAST = 0.1
"""lowest score of a label that is shown"""


class StateTopics:
    """One message a topic, the newest: nothing is queued, so after an outage no old state is published.

    Has no connection: `first` is due until it is `done`, and `online` makes all of them due again.
    """

    def __init__(
        self,
        topics: Topics,
        sources: Iterable[str],
        sounds: Iterable[str],
        names: Names = DEFAULT_NAMES,
        expected: Collection[tuple[str, str]] = (),
        claims: Claims | None = None,
    ) -> None:
        """`expected` are sounds that should be heard again and again, as source and sound.

        With `claims` each source is claimed, as one more state.
        """
        self._topics = topics
        self._claims = claims
        self._sources: tuple[str, ...] = ()
        self._sounds: tuple[str, ...] = ()
        self._expected: frozenset[tuple[str, str]] = frozenset()
        self._names = names
        self._now: dict[str, Message] = {}
        self._due: dict[str, None] = {}
        self._levels: dict[str, tuple[float, float]] = {}
        self._labels_at: dict[str, float] = {}
        self._latest: dict[tuple[str, str], SoundEvent] = {}
        """the latest event, by source and sound"""
        self._today: dict[tuple[str, str], Today] = {}
        """by source and sound, and by source and the empty text"""
        self._day = today()
        self.change(sources, sounds, names, expected)
        self._put_status(self._topics.status, online=False)

    def change(
        self,
        sources: Iterable[str],
        sounds: Iterable[str],
        names: Names,
        expected: Collection[tuple[str, str]] = (),
    ) -> None:
        """Follow other sources and sounds: what stays keeps its state, what is new is OFF and offline."""
        before = {(source, sound) for source in self._sources for sound in self._sounds}
        old_sources, self._names = self._sources, names
        self._sources, self._sounds = tuple(sources), tuple(sounds)
        self._expected = frozenset(expected)
        wanted = {(source, sound) for source in self._sources for sound in self._sounds}
        self._latest = {key: event for key, event in self._latest.items() if key in wanted}
        known = self._source_topics()
        for topic in [topic for topic in self._now if not self._is_wanted(topic, known)]:
            del self._now[topic]
            self._due.pop(topic, None)
        for source in self._sources:
            self.claim(source)
            for sound in self._sounds:
                if (source, sound) not in before:
                    self._put_attributes(source, sound)
                    self._set(self._topics.sound_state(source, sound), "OFF", qos=1, retain=True)
            if source not in old_sources:
                self._put_status(self._topics.source_status(source), online=False)
            self._put_any(source)

    def count(self, source: str, sound: str, onset: float) -> None:
        """Count an event of today that began before this process did, or now."""
        if date.fromtimestamp(onset) != self._day:
            return
        for key in ((source, sound), (source, "")):
            so_far = self._today.get(key, Today())
            first = onset if so_far.first is None else min(so_far.first, onset)
            self._today[key] = Today(so_far.count + 1, first)

    def count_earlier(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Count events that began before this process did: source, sound and onset of each."""
        for source, sound, onset in events:
            self.count(source, sound, onset)
        self._put_days()

    def put(self, report: Report) -> None:
        """Update the topics that a report changes; not of a source that another process detects."""
        if not isinstance(report, Stats) and self._is_lost(report.source_id):
            return
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
                self._put_labels(report)
            case Recurrence():
                self._put_overdue(report)
            case Stats():
                self._turn_day()
                stats = encode(stats_message(report, self._topics.node))
                self._set(self._topics.stats, stats, qos=0, retain=True)

    def lose(self, source: str, why: str) -> None:
        """Another process detects a source: here it is OFF and offline, and no more is published of it."""
        self._rest(source)
        reason = encode({"schema": SCHEMA, "phase": SourcePhase.FAILED, "reason": why})
        self._set(self._topics.problem_attributes(source), reason, qos=1, retain=True)
        self._set(self._topics.problem(source), "ON", qos=1, retain=True)
        self.claim(source)

    def claim(self, source: str) -> None:
        """Publish the claim to a source again, unless it is lost."""
        if self._claims is None:
            return
        message = self._claims.message(source)
        if self._is_lost(source):
            self._now.pop(message.topic, None)
            self._due.pop(message.topic, None)
        else:
            self._set(*message[:2], qos=message.qos, retain=message.retain)
            self.again(message.topic)

    def put_control(self, control: Control, source: str) -> None:
        """Update the topics of what is in force for a source."""
        listen = "ON" if control.listens(source) else "OFF"
        self._set(self._topics.listen(source, "state"), listen, qos=1, retain=True)
        self._set(self._topics.profile(source, "state"), control.profile(source), qos=1, retain=True)
        mute = "ON" if control.muted_s(source) > 0 else "OFF"
        self._set(self._topics.mute(source, "state"), mute, qos=1, retain=True)
        for sound in control.all_sounds:
            listen_for = "ON" if control.listens_for(source, sound) else "OFF"
            self._set(self._topics.listen_for(source, sound, "state"), listen_for, qos=1, retain=True)
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
        later += [
            f(source, sound)
            for f in (self._topics.overdue, self._topics.overdue_attributes)
            for source, sound in self._expected
        ]
        claims = () if self._claims is None else self._claims.topics(self._sources)
        return sent.union(later, claims, [self._topics.stats])

    def online(self) -> None:
        """The node is online, and all topics are due: what the broker has retained may be stale."""
        self._put_status(self._topics.status, online=True)
        self._due = dict.fromkeys(self._now)

    def status(self) -> Message:
        """Whether the node is online."""
        return self._now[self._topics.status]

    def claimed(self) -> list[Message]:
        """The claims to the sources that are detected here."""
        topics = () if self._claims is None else self._claims.topics(self._sources)
        return [self._now[topic] for topic in topics if topic in self._now]

    def rest(self) -> None:
        """Everything OFF and offline: the state after the last report."""
        for source in self._sources:
            self._rest(source)
        self._put_status(self._topics.status, online=False)

    def first(self) -> Message | None:
        """The next message that is due."""
        return self._now[next(iter(self._due))] if self._due else None

    def other_than(self, topic: str) -> Message | None:
        """Some state with QoS 1 of another topic, which may go to the broker at any time."""
        apart = (topic, self._topics.status)
        return next((one for one in self._now.values() if one.qos and one.topic not in apart), None)

    def done(self, message: Message) -> None:
        """The broker has it. Where the topic has another message by now, that one stays due."""
        if self._now.get(message.topic) is message:
            self._due.pop(message.topic, None)

    def _rest(self, source: str) -> None:
        for sound in self._sounds:
            self._set(self._topics.sound_state(source, sound), "OFF", qos=1, retain=True)
        self._set(self._topics.any_sound(source), "OFF", qos=1, retain=True)
        self._put_status(self._topics.source_status(source), online=False)

    def _is_lost(self, source: str) -> bool:
        return self._claims is not None and source in self._claims.lost

    def _put_event(self, event: SoundEvent) -> None:
        source, sound = event.source_id, event.sound
        if source not in self._sources or sound not in self._sounds:
            return  # the end of a sound that is no longer configured
        self._turn_day()
        before = self._latest.get((source, sound))
        if before is None or before.id != event.id:
            self.count(source, sound, event.onset)
        self._latest[source, sound] = event
        self._put_attributes(source, sound)
        state = "OFF" if event.phase == "end" else "ON"
        self._set(self._topics.sound_state(source, sound), state, qos=1, retain=True)
        self._put_any(source)
        last = encode(event_message(event, self._topics.node, names=self._names))
        self._set(self._topics.last(source), last, qos=1, retain=True)

    def _put_overdue(self, found: Recurrence) -> None:
        source, sound = found.source_id, found.sound
        if (source, sound) not in self._expected:
            return
        attributes = encode(overdue_message(found))
        self._set(self._topics.overdue_attributes(source, sound), attributes, qos=1, retain=True)
        overdue = "ON" if found.is_overdue else "OFF"
        self._set(self._topics.overdue(source, sound), overdue, qos=1, retain=True)

    def _put_attributes(self, source: str, sound: str) -> None:
        day = self._today.get((source, sound), Today())
        attributes = encode(attributes_message(self._latest.get((source, sound)), day))
        self._set(self._topics.sound_attributes(source, sound), attributes, qos=1, retain=True)

    def _put_any(self, source: str) -> None:
        """Whether any sound goes on, and how many began today."""
        attributes = encode(any_sound_message(self._today.get((source, ""), Today())))
        self._set(self._topics.any_sound_attributes(source), attributes, qos=1, retain=True)
        states = (self._now[self._topics.sound_state(source, sound)].payload for sound in self._sounds)
        self._set(self._topics.any_sound(source), "ON" if "ON" in states else "OFF", qos=1, retain=True)

    def _turn_day(self) -> None:
        """At midnight, local time, counting begins anew."""
        if (day := today()) != self._day:
            self._day = day
            self._today.clear()
            self._put_days()

    def _put_days(self) -> None:
        for source in self._sources:
            for sound in self._sounds:
                self._put_attributes(source, sound)
            self._put_any(source)

    def _put_status(self, topic: str, *, online: bool) -> None:
        self._set(topic, "online" if online else "offline", qos=1, retain=True)

    def _put_level(self, hearing: Hearing) -> None:
        now = time.monotonic()
        sent_at, sent_dbfs = self._levels.get(hearing.source_id, (-math.inf, 0.0))
        is_step = abs(hearing.level_dbfs - sent_dbfs) >= LEVEL_STEP_DB
        if now - sent_at < (LEVEL_LEAST_S if is_step else LEVEL_PACE_S):
            return
        self._levels[hearing.source_id] = (now, hearing.level_dbfs)
        level = level_payload(hearing.level_dbfs)
        self._set(self._topics.level(hearing.source_id), level, qos=0, retain=False)
        if hearing.level_dba is not None:
            level_dba = level_dba_payload(hearing.level_dba)
            self._set(self._topics.level_dba(hearing.source_id), level_dba, qos=0, retain=False)

    def _put_labels(self, hearing: Hearing) -> None:
        """The strongest labels of the model, as words: scores would be another text each time."""
        now = time.monotonic()
        if not hearing.top or now - self._labels_at.get(hearing.source_id, -math.inf) < LEVEL_PACE_S:
            return
        self._labels_at[hearing.source_id] = now
        strong = [label for label, score in hearing.top.items() if score >= LABEL_LEAST][:LABELS_SHOWN]
        text = ", ".join(map(self._names.label, strong)) or "-"
        self._set(self._topics.labels(hearing.source_id), text[:255], qos=0, retain=False)

    def _source_topics(self) -> tuple[str, ...]:
        return tuple(
            f"{self._topics.source_status(source).removesuffix('status')}" for source in self._sources
        )

    def _is_wanted(self, topic: str, prefixes: tuple[str, ...]) -> bool:
        """Of the node, or of a source and a sound that there are."""
        if topic in (self._topics.status, self._topics.stats):
            return True
        prefix = next((prefix for prefix in prefixes if topic.startswith(prefix)), None)
        if prefix is None:
            return self._claims is not None and topic in self._claims.topics(self._sources)
        levels = topic.removeprefix(prefix).split("/")
        if len(levels) < 3 or levels[0] != "sound":
            return True
        if levels[2] == "overdue":
            source = prefix.rstrip("/").rsplit("/", 1)[1]
            return (source, levels[1]) in self._expected
        return levels[1] in self._sounds

    def _set(self, topic: str, payload: str, *, qos: int, retain: bool) -> None:
        message = Message(topic, payload, qos, retain)
        if self._now.get(topic) == message and retain:
            return
        self._now[topic] = message
        # To the end of the order, also where it was due already: attributes go before the state they explain.
        self._due.pop(topic, None)
        self._due[topic] = None


def today() -> date:
    """The day here, by the local clock."""
    return datetime.now().astimezone().date()
