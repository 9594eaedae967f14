"""Shows the blueprint of the documentation to a real Home Assistant, scene by scene: which event notifies.

    python -m tests.home_assistant.scenes --python ha/bin/python

`tests/home_assistant/test_blueprint.py` does the same where $STREAMER_HOME_ASSISTANT names such a python.
The environment is that of `tests.home_assistant`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt

from streamer.config.schema import Config
from streamer.language import Names
from streamer.mqtt.messages import event_message
from streamer.mqtt.topics import Topics
from streamer.types import Priority
from tests.home_assistant.home import Home, at_home
from tests.mosquitto import HOST
from tests.reports import event

TOPICS = Topics("streamer", "pi")
CONFIG = Config.model_validate(
    {
        "node": "pi",
        "sources": {"kitchen": {"demo": True}, "hall": {"demo": True}},
        "sounds": {
            "dog_bark": {"labels": ["Dog"]},
            "smoke_alarm": {"labels": ["Smoke detector, smoke alarm"]},
            "glass_break": {"labels": ["Glass"]},
        },
        "home_assistant": {"form": "entity", "page_url": "http://home.local:8927/"},
    }
)
ADDRESSES = {
    "picture_url": "http://home.local:8927/api/1/shared/e2.png?until=1795956570&signature=0",
    "clip_url": "http://home.local:8927/api/1/shared/e2.flac?until=1795956570&signature=0",
}
COOLDOWN_S = 8.0
AT_ONCE = 8
"""events that come in the same packet, so that some of them are of the same millisecond"""
SETTLED_S = 2.5
"""after so long whatever was to notify has done so"""


def automation(alias: str, **inputs: object) -> dict[str, Any]:
    """The blueprint, used as a person would; it says on ha/notified/ALIAS what it does."""
    return {
        "id": alias,
        "alias": alias,
        "use_blueprint": {
            "path": "streamer/notify_on_sound.yaml",
            "input": {
                "devices": ["event.kitchen_detection", "event.hall_detection"],
                "sounds": ["dog_bark", "smoke_alarm", "glass_break"],
                "cooldown": COOLDOWN_S,
                "actions": [
                    {
                        "service": "mqtt.publish",
                        "data": {
                            "topic": f"notified/{alias}",
                            "payload": "{{ event_id }} {{ notification | to_json }}",
                        },
                    }
                ],
                **inputs,
            },
        },
    }


def _hour(hours: float) -> str:
    return (datetime.now().astimezone() + timedelta(hours=hours)).strftime("%H:%M:%S")


def automations() -> list[dict[str, Any]]:
    return [
        automation("always", phones=["one_that_is_gone"]),
        automation("sure", peak=0.5, cooldown=0),
        automation("quiet", quiet_from=_hour(-1), quiet_until=_hour(1), cooldown=0),
    ]


class Scene:
    """A home in which events happen, and what it notified of."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.notified: list[tuple[str, str]] = []
        """automation and event id, in order"""
        self.notifications: dict[str, dict[str, Any]] = {}
        """what a phone gets, by event id"""
        self._n = 0

    async def read(self) -> None:
        async for message in self._client.messages:
            payload = message.payload.decode() if isinstance(message.payload, bytes) else ""
            event_id, _, notification = payload.partition(" ")
            self.notified.append((str(message.topic).split("/")[1], event_id))
            self.notifications[event_id] = json.loads(notification)

    async def hear(
        self,
        sound: str,
        *,
        source: str = "kitchen",
        priority: Priority = "normal",
        peak: float = 0.9,
        score: float = 0.9,
        notify: bool = True,
        verified: bool | None = None,
        delayed_s: float = 0.0,
        **addresses: str,
    ) -> str:
        """A sound begins; the id of its event. `addresses` are those of its picture and its clip."""
        self._n += 1
        happened = replace(
            event(event_id=f"e{self._n}", source=source, sound=sound),
            priority=priority,
            peak=peak,
            score=score,
            notify=notify,
            verified=verified,
            onset=time.time(),
            emitted_at=time.time(),
        )
        message = event_message(happened, "pi", delayed_s=delayed_s, names=Names()) | addresses
        await self._client.publish(TOPICS.event(source, "start"), json.dumps(message), qos=1)
        return happened.id

    async def status(self, status: str) -> None:
        """The daemon is there or not, as it says itself or the broker for it."""
        await self._client.publish(TOPICS.status, status, qos=1, retain=True)
        await asyncio.sleep(SETTLED_S)

    async def by(self, automation: str) -> list[str]:
        """The events that an automation has notified of, once all is settled."""
        await asyncio.sleep(SETTLED_S)
        return [event_id for name, event_id in self.notified if name == automation]


async def play(home: Home) -> None:
    """All scenes. Raises AssertionError."""
    async with aiomqtt.Client(HOST, home.port) as client:
        await client.subscribe("notified/#", qos=1)
        await home.start_with(client, CONFIG, TOPICS)
        for topic in (TOPICS.status, TOPICS.source_status("kitchen"), TOPICS.source_status("hall")):
            await client.publish(topic, "online", qos=1, retain=True)
        await home.shows("event.kitchen_detection", "unknown")
        scene = Scene(client)
        reading = asyncio.create_task(scene.read())
        try:
            await _play(scene)
        finally:
            reading.cancel()
            await asyncio.wait((reading,))
    assert not home.complaints(), "\n".join(home.complaints())


async def _play(scene: Scene) -> None:
    dog = await scene.hear("dog_bark")
    await asyncio.sleep(1)
    smoke = await scene.hear("smoke_alarm", **ADDRESSES)
    assert await scene.by("always") == [dog, smoke]
    print("ok  a smoke alarm inside the dog's cool-down notifies")
    shown = scene.notifications[smoke]
    assert shown["clickAction"] == shown["url"] == f"http://home.local:8927/#/events/{smoke}", shown
    print("ok  a tap opens the event on the page")
    assert shown["image"] == ADDRESSES["picture_url"], shown
    buttons = [{"action": "URI", "title": "Listen", "uri": ADDRESSES["clip_url"]}]
    assert shown["actions"] == buttons, shown
    assert not {"image", "actions"} & scene.notifications[dog].keys(), scene.notifications[dog]
    print("ok  it shows the picture and has a button for the clip, where there are addresses of them")

    again = [await scene.hear("dog_bark"), await scene.hear("dog_bark")]
    elsewhere = await scene.hear("dog_bark", source="hall")
    said = await scene.by("always")
    assert said[2:] == [elsewhere], (said, again)
    print("ok  the dog does not notify again while it cools down, but in another room it does")

    critical = await asyncio.gather(
        *(scene.hear("smoke_alarm", priority="critical", verified=True) for _ in range(AT_ONCE))
    )
    said = await scene.by("always")
    assert sorted(said[3:]) == sorted(critical), said
    print("ok  a critical sound knows no cool-down, and events of the same millisecond are not one")

    await asyncio.sleep(COOLDOWN_S)
    warm = await scene.hear("dog_bark")
    said = await scene.by("always")
    assert said[3 + AT_ONCE :] == [warm], said
    print("ok  after the cool-down the dog notifies again")

    glass = await scene.hear("glass_break", peak=0.6, score=0.0)
    faint = await scene.hear("glass_break", peak=0.4, score=0.4)
    said = await scene.by("sure")
    assert glass in said, said
    assert faint not in said, said
    print("ok  a short sound that is over notifies by its peak, and one that is less sure does not")

    alarm = await scene.hear("smoke_alarm", priority="critical", peak=0.3)
    normal = await scene.hear("glass_break", source="hall")
    said = await scene.by("quiet")
    assert alarm in said, said
    assert normal not in said, said
    assert set(said) <= {*critical, alarm}, said
    print("ok  in quiet hours only what is critical notifies")

    cooled = await scene.hear("glass_break", notify=False)
    late = await scene.hear("glass_break", delayed_s=600.0)
    said = await scene.by("sure")
    assert not {cooled, late} & set(said), said
    print("ok  what the detector says not to notify of does not, and neither does what comes late")

    before = len(await scene.by("always"))
    for _ in range(2):
        await scene.status("offline")
        await scene.status("online")
    assert len(await scene.by("always")) == before, scene.notified
    await scene.status("offline")
    missed = await scene.hear("smoke_alarm", priority="critical", delayed_s=600.0)
    await scene.status("online")
    said = await scene.by("always")
    assert said[before:] == [missed], said
    print(
        "ok  an alarm that came while all was unavailable notifies, and what was notified of does not again"
    )


async def show(python: str, folder: Path) -> None:
    """`play` with a broker and a Home Assistant of its own."""
    async with at_home(python, folder, automations()) as home:
        await play(home)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="of the environment that has homeassistant")
    python = str(Path(parser.parse_args().python).absolute())
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(show(python, Path(name)))


if __name__ == "__main__":
    main()
