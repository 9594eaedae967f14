"""Takes the pictures of docs/home-assistant in a real Home Assistant: the page of a device, and the card.

    ha/bin/pip install home-assistant-frontend==20240307.0 Pillow==10.2.0 "josepy<2"
    ha/bin/pip install SQLAlchemy==2.0.27 fnv-hash-fast==0.5.0 psutil-home-assistant==0.0.1
    python -m tests.home_assistant.pictures --python ha/bin/python docs/home-assistant

The card is the one that the documentation shows. The environment is that of `tests.home_assistant` with Home
Assistant 2024.3.3, and what its frontend requires.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import aiomqtt
import yaml
from playwright.async_api import Browser, Page, async_playwright

from streamer.config.control import Control
from streamer.config.schema import Config, example, load_config
from streamer.core.json_file import JsonFile
from streamer.mqtt.messages import Message, encode, event_message
from streamer.mqtt.states import StateTopics
from streamer.mqtt.topics import Topics
from streamer.types import Hearing, SoundEvent, SourcePhase, SourceState
from tests.home_assistant.home import CONFIGURATION, at_home, drained
from tests.mosquitto import HOST, free_port
from tests.reports import event, stats

ROOM = "kitchen"
README = Path(__file__).parents[2] / "docs" / "home-assistant" / "README.md"
FRONTEND = """\
http:
  server_host: {host}
  server_port: {port}
frontend:
recorder:
  commit_interval: 1
history:
logbook:
lovelace:
  mode: yaml
"""
HEARD = (
    ("door_knock", 0.81, 3 * 3600),
    ("dog_bark", 0.88, 5400),
    ("telephone", 0.9, 2400),
    ("doorbell", 0.93, 240),
)
"""sound, peak, and how many seconds ago"""
LEVELS_DBA = (36.1, 35.4, 36.8, 52.3, 38.9, 36.2)
NO_LOGO = '<svg xmlns="http://www.w3.org/2000/svg"/>'
MARGIN = 8
SHOWN_MS = 6000
"""until the frontend has drawn all"""


def documented_card() -> dict[str, Any]:
    """The card of the documentation."""
    text = README.read_text(encoding="utf-8").split("## A card for the dashboard", 1)[1]
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    card: dict[str, Any] = yaml.safe_load(block[1])
    return card


def reports() -> Iterator[SoundEvent | Hearing]:
    """What has been heard today."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0).timestamp()
    for n, (sound, peak, ago_s) in enumerate(HEARD):
        onset = max(time.time() - ago_s, midnight + n)
        begun = replace(
            event(event_id=f"e{n}", source=ROOM, sound=sound), onset=onset, peak=peak, emitted_at=onset + 1
        )
        yield begun
        yield replace(begun, phase="end", offset=onset + 2.5)
    for level_dba in LEVELS_DBA:
        yield Hearing(ROOM, time.time(), level_dba - 94, {}, level_dba=level_dba)


async def live(client: aiomqtt.Client, config: Config, topics: Topics) -> None:
    """Publish what a daemon would."""

    async def publish(messages: Iterable[Message]) -> None:
        for message in messages:
            await client.publish(message.topic, message.payload, message.qos, message.retain)

    state = StateTopics(topics, config.sources, config.sounds, config.names)
    control = Control(config, JsonFile(None, ""))
    state.online()
    state.put_control(control, ROOM)
    state.put(SourceState(ROOM, SourcePhase.LISTENING, time.time()))
    state.put(stats())
    await publish(drained(state))
    for report in reports():
        state.put(report)
        if isinstance(report, SoundEvent) and report.phase == "start":
            payload = encode(event_message(report, topics.node, names=config.names))
            await publish([Message(topics.event(ROOM, "start"), payload, 1, retain=False)])
        await publish(drained(state))
        if isinstance(report, Hearing) and report.level_dba is not None:
            # Its pace is that of the hours that it has been listening.
            await publish([Message(topics.level_dba(ROOM), f"{report.level_dba}", 0, retain=False)])
        await asyncio.sleep(1.5)


def onboard(address: str) -> dict[str, object]:
    """Make the first user, as a new Home Assistant does; what a browser keeps of the login."""
    client_id = f"{address}/"

    def post(path: str, body: bytes, kind: str) -> dict[str, Any]:
        with urlopen(Request(address + path, body, {"Content-Type": kind})) as answer:  # noqa: S310  an address of its own
            found: dict[str, Any] = json.loads(answer.read())
            return found

    user = {
        "name": "Home",
        "username": "home",
        "password": "at home",
        "language": "en",
        "client_id": client_id,
    }
    code = post("/api/onboarding/users", json.dumps(user).encode(), "application/json")["auth_code"]
    form = urlencode({"grant_type": "authorization_code", "code": code, "client_id": client_id}).encode()
    tokens = post("/auth/token", form, "application/x-www-form-urlencoded")
    expires = 1000 * (time.time() + tokens["expires_in"])
    return {**tokens, "hassUrl": address, "clientId": client_id, "expires": expires}


async def opened(browser: Browser, tokens: dict[str, object]) -> Page:
    context = await browser.new_context(viewport={"width": 1280, "height": 1150}, device_scale_factor=1.5)
    # Logos come from the world, which is not asked.
    await context.route(
        re.compile("^https://"), lambda route: route.fulfill(content_type="image/svg+xml", body=NO_LOGO)
    )
    await context.add_init_script(f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(tokens))})")
    await context.add_init_script("localStorage.setItem('dockedSidebar', '\"always_hidden\"')")
    return await context.new_page()


async def take(address: str, tokens: dict[str, object], folder: Path) -> None:
    """The pictures, as PNG."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = await opened(browser, tokens)
        await page.goto(f"{address}/lovelace/home")
        await page.wait_for_timeout(SHOWN_MS)
        box = await page.locator("hui-entities-card").bounding_box()
        assert box is not None
        around = {
            "x": box["x"] - MARGIN,
            "y": box["y"] - MARGIN,
            "width": box["width"] + 2 * MARGIN,
            "height": box["height"] + 2 * MARGIN,
        }
        await page.screenshot(path=folder / "card.png", clip=around)
        device = await page.evaluate(
            "() => Object.values(document.querySelector('home-assistant').hass.devices)"
            ".find((device) => device.name === 'Kitchen').id"
        )
        await page.goto(f"{address}/config/devices/device/{device}")
        await page.wait_for_timeout(SHOWN_MS)
        await page.screenshot(path=folder / "device.png")
        await browser.close()


async def show(python: str, folder: Path, pictures: Path) -> None:
    """With a broker and a Home Assistant of its own."""
    port = free_port()
    changes: dict[str, Any] = {
        "sources": {ROOM: {"demo": True, "name": "Kitchen", "area": "Kitchen", "calibration_db": 94.0}},
        "home_assistant": {"form": "entity", "page_url": "http://home.local:8927/"},
    }
    config = Config.model_validate(load_config(example("home")).model_dump(exclude_unset=True) | changes)
    topics = Topics("streamer", config.node)
    own = CONFIGURATION + FRONTEND.format(host=HOST, port=port)
    async with at_home(python, folder, [], own) as home, aiomqtt.Client(HOST, home.port) as client:
        view = {"title": "Home", "path": "home", "cards": [documented_card()]}
        # JSON is YAML.
        (folder / "home" / "ui-lovelace.yaml").write_text(json.dumps({"views": [view]}), encoding="utf-8")
        # All but the first user is behind it.
        onboarding = {
            "version": 4,
            "key": "onboarding",
            "data": {"done": ["core_config", "analytics", "integration"]},
        }
        (folder / "home" / ".storage" / "onboarding").write_text(json.dumps(onboarding), encoding="utf-8")
        await home.start_with(client, config, topics)
        await live(client, config, topics)
        await home.shows(f"sensor.{ROOM}_last_sound", "Doorbell")
        address = f"http://{HOST}:{port}"
        await take(address, await asyncio.to_thread(onboard, address), pictures)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="of the environment that has homeassistant")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    arguments = parser.parse_args()
    python = str(Path(arguments.python).absolute())
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(show(python, Path(name), arguments.folder))


if __name__ == "__main__":
    main()
