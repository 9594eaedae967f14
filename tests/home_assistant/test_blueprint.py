"""The blueprint of the documentation: what it decides, and, where Home Assistant is at hand, what it does.

Where $STREAMER_HOME_ASSISTANT names the Python of an environment with it, the scenes are played there, too.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

from streamer.language import Names
from streamer.mqtt.messages import event_message
from tests.home_assistant import scenes
from tests.home_assistant.home import BLUEPRINT
from tests.reports import event

PYTHON = os.environ.get("STREAMER_HOME_ASSISTANT")


class Input(str):
    """`!input NAME`."""


class Loader(yaml.SafeLoader):
    """YAML as Home Assistant reads it."""


Loader.add_constructor("!input", lambda loader, node: Input(loader.construct_scalar(node)))  # type: ignore[arg-type]


def load() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(BLUEPRINT.read_text(encoding="utf-8"), Loader)  # noqa: S506  its own
    return loaded


class State:
    """A state of the entity, as templates see it."""

    def __init__(self, state: str, last_changed: str = "", **attributes: object) -> None:
        self.state = state
        self.last_changed = last_changed or state
        self.attributes = attributes


PHONES = {"p1": "Anna's phone", "p2": "Pixel 9"}
"""the names of the phones that there are, by device id"""


def slugify(text: str) -> str:
    """As Home Assistant's own, of names in ASCII."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("'", "")).strip("_")


BEFORE = State("2026-11-28T12:00:00.000+00:00", id="e0")


def variables(
    fields: dict[str, object],
    at: time = time(12),
    *,
    page: str | None = None,
    before: State | None = BEFORE,
    is_gone: bool = False,
    **inputs: object,
) -> tuple[NativeEnvironment, dict[str, object]]:
    """The variables for an event, rendered by the engine that Home Assistant uses, and that engine."""
    blueprint = load()
    given = {key: one.get("default") for key, one in blueprint["blueprint"]["input"].items()} | inputs
    message = event_message(event(), "pi", names=Names()) | fields
    environment = NativeEnvironment()
    environment.filters["slugify"] = slugify
    environment.filters["float"] = lambda value, default=0.0: float(value) if value is not None else default
    state = None if is_gone else State(BEFORE.state, **json.loads(json.dumps(message)))
    states = {"from_state": before, "to_state": state, "entity_id": "event.kitchen_detection"}
    scope: dict[str, object] = {
        "trigger": type("Trigger", (), states),
        "this": type("This", (), {"entity_id": "automation.one"}),
        "now": lambda: datetime.combine(datetime.now(UTC).date(), at),
        "as_timestamp": lambda value, _=None: datetime.fromisoformat(value).timestamp(),
        "device_id": lambda _: "kitchen",
        "device_attr": lambda device, name: {"configuration_url": page, "name": PHONES.get(device)}[name],
    }
    for key, value in blueprint["variables"].items():
        scope[key] = (
            given[str(value)] if isinstance(value, Input) else environment.from_string(value).render(scope)
        )
    return environment, scope


def notifies(
    fields: dict[str, object],
    at: time = time(12),
    *,
    before: State | None = BEFORE,
    is_gone: bool = False,
    **inputs: object,
) -> bool:
    """Whether the conditions let an event pass."""
    environment, scope = variables(fields, at, before=before, is_gone=is_gone, **inputs)
    return all(
        str(environment.from_string(condition["value_template"]).render(scope)).strip() == "True"
        for condition in load()["condition"]
    )


DOG: dict[str, object] = {"sound": "dog_bark"}
SMOKE: dict[str, object] = {"sound": "smoke_alarm", "priority": "critical", "verified": True}
NIGHT = {"quiet_from": "22:00:00", "quiet_until": "07:00:00"}
ANY = {"sounds": ["dog_bark", "smoke_alarm"]}


@pytest.mark.parametrize(
    ("fields", "inputs", "at", "expected"),
    [
        (DOG, ANY, time(12), True),
        (DOG, {"sounds": ["smoke_alarm"]}, time(12), False),
        (DOG | {"notify": False}, ANY, time(12), False),
        (DOG | {"peak": 0.6, "score": 0.0}, ANY | {"peak": 0.5}, time(12), True),
        (DOG | {"peak": 0.4, "score": 0.4}, ANY | {"peak": 0.5}, time(12), False),
        (DOG, ANY | NIGHT, time(23), False),
        (DOG, ANY | NIGHT, time(6, 59), False),
        (DOG, ANY | NIGHT, time(7), True),
        (DOG, ANY | {"quiet_from": "12:00:00", "quiet_until": "13:00:00"}, time(12, 30), False),
        (DOG | {"delayed_s": 61.0}, ANY, time(12), False),
        (SMOKE, ANY | NIGHT, time(23), True),
        (SMOKE | {"notify": False, "peak": 0.1, "delayed_s": 600.0}, ANY | {"peak": 0.5}, time(12), True),
    ],
)
def test_which_events_notify(
    fields: dict[str, object], inputs: dict[str, object], at: time, *, expected: bool
) -> None:
    """What is critical always does; the rest by its peak, outside of quiet hours, if the detector says so."""
    assert notifies(fields, at, **inputs) is expected


@pytest.mark.parametrize(
    ("before", "is_gone", "expected"),
    [
        (BEFORE, False, True),
        (State("unknown"), False, True),
        (State(BEFORE.state, id="e1"), False, False),
        (State("unavailable", "2026-11-28T12:00:01.000+00:00"), False, False),
        (State("unavailable", "2026-11-28T11:59:59.000+00:00"), False, True),
        (None, False, False),
        (BEFORE, True, False),
    ],
    ids=[
        "the same millisecond",
        "the first",
        "a new name",
        "there again",
        "meanwhile",
        "a new entity",
        "gone",
    ],
)
def test_each_event_notifies_once(before: State | None, *, is_gone: bool, expected: bool) -> None:
    """Whatever else changes of its entity: the state alone is the same for events of one millisecond."""
    assert notifies(SMOKE, before=before, is_gone=is_gone, **ANY) is expected
    (trigger,) = load()["trigger"]
    assert trigger.keys() == {"platform", "entity_id"}


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("http://home.local:8927/", "http://home.local:8927/#/events/e1"),
        ("https://home.example/ears", "https://home.example/ears/#/events/e1"),
        (None, "/logbook?entity_id=event.kitchen_detection"),
    ],
)
def test_a_tap_opens_the_event(page: str | None, link: str) -> None:
    """On the page of the device, where it has one; else in the logbook of Home Assistant. On either phone."""
    scope = variables(DOG, page=page)[1]
    notification = scope["notification"]
    assert isinstance(notification, dict)
    assert scope["link"] == notification["clickAction"] == notification["url"] == link


PICTURE = {"picture_url": "https://home.example/api/1/shared/e1.png?until=1&signature=0"}
CLIP = {"clip_url": "https://home.example/api/1/shared/e1.flac?until=1&signature=0"}


@pytest.mark.parametrize("addresses", [{}, PICTURE, CLIP, PICTURE | CLIP])
def test_picture_and_clip_where_there_are_addresses(addresses: dict[str, str]) -> None:
    """The phone shows the one and has a button for the other; without an address it is asked for neither."""
    notification = variables(DOG | addresses, listen="Anhören")[1]["notification"]
    assert isinstance(notification, dict)
    assert notification.get("image") == addresses.get("picture_url")
    buttons = [{"action": "URI", "title": "Anhören", "uri": addresses.get("clip_url")}]
    assert notification.get("actions") == (buttons if CLIP.items() <= addresses.items() else None)
    assert notification["tag"] == "streamer-dog_bark-pi/kitchen"


def test_what_is_critical_breaks_through_silence() -> None:
    """On Android by the channel of alarms, on iOS by a critical sound at full volume."""
    for fields, channel, sound in (
        (DOG, "streamer", {"name": "default", "critical": 0, "volume": 0.5}),
        (SMOKE, "alarm_stream", {"name": "default", "critical": 1, "volume": 1.0}),
    ):
        notification = variables(fields)[1]["notification"]
        assert isinstance(notification, dict)
        assert (notification["channel"], notification["push"]) == (channel, {"sound": sound})


def test_phones_get_the_notification() -> None:
    """As the variables make it; one that is gone keeps no other from its own, and none keeps `actions`."""
    assert variables(DOG, phones=["gone", "p1", "p2"])[1]["services"] == [
        "notify.mobile_app_annas_phone",
        "notify.mobile_app_pixel_9",
    ]
    assert variables(DOG, phones=["gone"])[1]["services"] == []
    ((phones, more),) = (step["parallel"] for step in load()["action"] if "parallel" in step)
    assert phones["repeat"]["for_each"] == "{{ services }}"
    (step,) = phones["repeat"]["sequence"]
    assert step["service"] == "{{ repeat.item }}"
    assert step["data"]["data"] == "{{ notification }}"
    assert more["default"] == "actions"


def test_a_run_for_each_event() -> None:
    """One that waits for its cool-down never keeps another sound from notifying."""
    blueprint = load()
    assert blueprint["mode"] == "parallel"
    assert blueprint["max"] >= 1000
    assert "delay" not in {key for step in blueprint["action"] for key in step}


def test_the_sounds_to_choose_from_are_those_that_ship() -> None:
    """Each by its name, with its id as the value."""
    select = load()["blueprint"]["input"]["sounds"]["selector"]["select"]
    home = yaml.safe_load((Path(__file__).parents[2] / "configs" / "home.yaml").read_text(encoding="utf-8"))
    assert {one["value"]: one["label"] for one in select["options"]} == {
        sound: Names().sound(sound) for sound in home["sounds"]
    }


if PYTHON is not None:

    @pytest.mark.slow
    async def test_the_scenes(tmp_path: Path) -> None:
        """In a real Home Assistant: dog and smoke, a short sound, quiet hours, notify: false."""
        await scenes.show(str(PYTHON), tmp_path)
