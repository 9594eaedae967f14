"""A kitchen with a dog: a process whose sink says something every second, until it is killed."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.core.json_file import JsonFile
from streamer.home_assistant.discovery import discovery
from streamer.metrics import Metrics
from streamer.mqtt.publisher import MqttSink
from streamer.mqtt.topics import Topics
from streamer.store.log import Log
from streamer.store.writer import Writer
from streamer.types import Hearing, Phase, SoundEvent, SourceState, Stats


def event(event_id: str, sound: str, phase: Phase) -> SoundEvent:
    now = time.time()
    offset = now if phase == "end" else None
    return SoundEvent(
        event_id, "kitchen", sound, phase, now - 1, offset, 0.93, 0.9, {"Dog": 0.9}, -30.0, now, now - 0.2
    )


async def main(port: int, state: Path, form: str, sounds: list[str]) -> None:
    config = Config.model_validate(
        {
            "node": "pi",
            "sources": {"kitchen": {"demo": True}},
            "sounds": {sound: {"labels": ["Dog"], "shown": True} for sound in sounds},
            "mqtt": {"host": "127.0.0.1", "port": port},
            "home_assistant": None if form == "none" else {"form": form},
        }
    )
    metrics = Metrics()
    metrics.source("kitchen")
    metrics.latencies_s.append(0.2)
    control = Control(config, JsonFile(state, "control.json"))
    recorder = Writer(Log(state, metrics, consumers=["mqtt"]), metrics)
    sink = MqttSink(
        config.mqtt,
        "pi",
        config.sources,
        config.sounds,
        recorder.consumer("mqtt"),
        metrics,
        control=control,
        discovery=discovery(
            config,
            Topics(config.mqtt.prefix, config.node),
            thresholds=control.sounds,
            commands=config.mqtt.commands,
        ),
        names=config.names,
        announced=JsonFile(state, "announced.json"),
    )
    recorder.sinks.append(sink)
    telling = asyncio.create_task(recorder.run())
    phases: tuple[Phase, ...] = ("start", "update", "end")
    for second in range(10_000):
        listens = control.listens("kitchen")
        recorder.put(SourceState("kitchen", "listening" if listens else "paused", time.time()))
        for sound in sounds if listens else ():
            recorder.put(event(f"{int(time.time())}-{sound}", sound, phases[second % 3]))
        recorder.put(Hearing("kitchen", time.time(), -40.0 + second % 7, {}))
        recorder.put(Stats(time.time(), {"uptime_s": second, **metrics.snapshot()}))
        await asyncio.wait((telling,), timeout=1.0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))
