"""Counts the rows that an hour costs in the database of a real Home Assistant: a steady room, and a busy one.

    ha/bin/pip install SQLAlchemy==2.0.27 fnv-hash-fast==0.5.0 psutil-home-assistant==0.0.1
    python -m tests.home_assistant.rows --python ha/bin/python

A minute of audio goes through the model and the detector with configs/home.yaml. Its reports go, sixty times,
through the state topics by a clock of their own, and what these publish through Mosquitto to a Home Assistant
that has a recorder. Its environment is that of `tests.home_assistant`, with what the recorder requires.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import aiomqtt
import numpy as np

from streamer.config.control import Control
from streamer.config.schema import Config, example, load_config
from streamer.core.json_file import JsonFile
from streamer.data.synthesis import DEMO_RATE, DEMO_S, coloured_noise, demo_recording, write_wav
from streamer.detection.pipeline import Pipeline
from streamer.inference.engines import open_engine
from streamer.mqtt import states
from streamer.mqtt.messages import Message, encode, event_message
from streamer.mqtt.states import StateTopics
from streamer.mqtt.topics import Topics
from streamer.run.offline import Recording, detect_all
from streamer.types import Report, Samples, Scores, SoundEvent, SourcePhase, SourceState, Window
from tests.home_assistant.home import CONFIGURATION, at_home, drained
from tests.mosquitto import HOST
from tests.reports import stats

ROOM = "room"
MINUTES = 60
STATS_S = 30
RECORDER = """\
recorder:
  commit_interval: 1
"""
AT_ONCE = 50
"""messages that are published before Home Assistant is given time for them"""


def recordings() -> dict[str, Samples]:
    """A minute each, at `DEMO_RATE`."""
    rng = np.random.default_rng(7)
    return {
        "a steady room": 0.002 * coloured_noise(rng, DEMO_RATE, DEMO_S, 1.0),
        "the built-in recording, again and again": demo_recording(),
    }


def reports(path: Path, config: Config) -> list[Report]:
    """What a daemon reports of a recording, in order of time."""
    found: list[tuple[float, Report]] = []
    scored: list[Scores | None] = []

    def observe(_: Pipeline, __: Window, scores: Scores | None) -> None:
        scored.append(scores)

    engine = open_engine(config.model)
    for step, events in detect_all([Recording(path, ROOM)], config, engine, observe=observe):
        if step.sensed is not None:
            hearing = step.pipeline.hearing(step.sensed, scored[-1])
            found.append((hearing.at, hearing))
        found += [(event.emitted_at, event) for event in events]
    found += [(float(at), replace(stats(), at=float(at))) for at in range(0, int(DEMO_S), STATS_S)]
    return [report for _, report in sorted(found, key=lambda one: one[0])]


def hour(minute: Iterable[Report], began_at: float) -> Iterator[tuple[float, Report]]:
    """The reports of a minute again and again, with the seconds since the begin; each id is a new one."""
    reports = list(minute)
    for n in range(MINUTES):
        shift = n * DEMO_S
        for report in reports:
            match report:
                case SoundEvent():
                    at = report.emitted_at + shift
                    offset = None if report.offset is None else began_at + shift + report.offset
                    moved: Report = replace(
                        report,
                        id=f"{n}-{report.id}",
                        onset=began_at + shift + report.onset,
                        offset=offset,
                        emitted_at=began_at + at,
                        heard_at=began_at + shift + report.heard_at,
                    )
                case _:
                    at = report.at + shift
                    moved = replace(report, at=began_at + at)
            yield at, moved


def messages(state: StateTopics, config: Config, hour: Iterable[tuple[float, Report]]) -> Iterator[Message]:
    """What the broker gets of an hour, in order."""
    clock = [0.0]
    topics = topics_of(config)
    with mock.patch.object(states.time, "monotonic", lambda: clock[0]):
        for at, report in hour:
            clock[0] = at
            if isinstance(report, SoundEvent):
                payload = encode(event_message(report, topics.node, names=config.names))
                yield Message(topics.event(ROOM, report.phase), payload, 1, retain=False)
            state.put(report)
            yield from drained(state)


async def count(python: str, folder: Path, name: str, config: Config, minute: list[Report]) -> None:
    """Print the rows of an hour, by entity."""
    topics = topics_of(config)
    state = StateTopics(topics, config.sources, config.sounds, config.names)
    own = CONFIGURATION + RECORDER
    async with at_home(python, folder, [], own) as home, aiomqtt.Client(HOST, home.port) as client:
        await home.start_with(client, config, topics)
        state.online()
        state.put_control(Control(config, JsonFile(None, "")), ROOM)
        state.put(SourceState(ROOM, SourcePhase.LISTENING, 0.0))
        for message in drained(state):
            await client.publish(message.topic, message.payload, message.qos, message.retain)
        await home.shows(f"binary_sensor.{ROOM}_any_sound", "off")
        await asyncio.sleep(2)
        began_at = time.time()
        sent = list(messages(state, config, hour(minute, began_at)))
        for n, message in enumerate(sent):
            await client.publish(message.topic, message.payload, message.qos, message.retain)
            if n % AT_ONCE == 0:
                await asyncio.sleep(0.1)
        await client.publish(topics.source_status(ROOM), "offline", qos=1, retain=True)
        await home.shows(f"sensor.{ROOM}_level", "unavailable")
        await asyncio.sleep(2)
    rows = recorded(folder / "home" / "home-assistant_v2.db", began_at)
    n_events = sum(isinstance(report, SoundEvent) and report.phase == "start" for report in minute)
    print(f"{name}: {MINUTES * n_events} events, {len(sent)} messages, {sum(rows.values())} rows")
    for entity, n_rows in rows.items():
        print(f"  {n_rows:5} {entity}")


def recorded(database: Path, since: float) -> dict[str, int]:
    """Rows by entity, the most first, without that of the end."""
    with closing(sqlite3.connect(database)) as connection:
        found: list[tuple[str, int]] = connection.execute(
            "select states_meta.entity_id, count(*) n from states join states_meta using (metadata_id)"
            " where last_updated_ts >= ? and state != 'unavailable'"
            " group by states_meta.entity_id order by n desc",
            (since,),
        ).fetchall()
    return dict(found)


def topics_of(config: Config) -> Topics:
    return Topics("streamer", config.node)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="of the environment that has homeassistant")
    python = str(Path(parser.parse_args().python).absolute())
    changes: dict[str, Any] = {"sources": {ROOM: {"demo": True}}, "home_assistant": {"form": "entity"}}
    home = load_config(example("home"))
    config = Config.model_validate(home.model_dump(exclude_unset=True) | changes)
    for name, samples in recordings().items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{ROOM}.wav"
            write_wav(path, samples, DEMO_RATE)
            asyncio.run(count(python, Path(folder), name, config, reports(path, config)))


if __name__ == "__main__":
    main()
