"""The Node-RED flow of the documentation, walked as Node-RED does: `switch` by `switch`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiomqtt import Topic

from streamer.mqtt.messages import event_message
from streamer.mqtt.topics import Topics
from tests.reports import event

FLOW = Path(__file__).parents[2] / "docs" / "home-assistant" / "node_red_flow.json"
RULES = {
    "true": lambda value, _: value is True,
    "eq": lambda value, rule: value == rule["v"],
    "lt": lambda value, rule: value < float(rule["v"]),
    "else": lambda _value, _rule: True,
}


def nodes() -> dict[str, dict[str, Any]]:
    """Each node of the flow by its id."""
    return {node["id"]: node for node in json.loads(FLOW.read_text(encoding="utf-8"))}


def reached(message: dict[str, Any], at: str = "streamer-in") -> set[str]:
    """The nodes that a message comes to; of a `switch`, by the first rule that holds."""
    node = nodes()[at]
    outputs = node.get("wires", [])
    if node["type"] == "switch":
        value = message[node["property"].removeprefix("payload.")]
        held = [k for k, rule in enumerate(node["rules"]) if RULES[rule["t"]](value, rule)]
        outputs = [outputs[k] for k in held[:1]]
    return {at}.union(*(reached(message, after) for output in outputs for after in output))


@pytest.mark.parametrize(
    ("fields", "is_let_through"),
    [
        ({}, True),
        ({"notify": False}, False),
        ({"delayed_s": 61.0}, False),
        ({"priority": "critical", "notify": False}, True),
        ({"priority": "critical", "delayed_s": 600.0}, True),
    ],
)
def test_what_is_critical_always_comes_through(fields: dict[str, object], *, is_let_through: bool) -> None:
    """The rest where it is to notify and in time."""
    message = event_message(event("start"), "home") | fields
    assert ("streamer-debug" in reached(message)) is is_let_through


def test_it_reads_what_is_published() -> None:
    """Its topic matches the start of an event, its fields are of one, and names are not written as HTML."""
    flow = nodes()
    assert Topic(Topics("streamer", "home").event("kitchen", "start")).matches(flow["streamer-in"]["topic"])
    template = flow["streamer-text"]["template"]
    fields = re.findall(r"\{\{\{payload\.(\w+)\}\}\}", template)
    assert set(fields) <= set(event_message(event("start"), "home"))
    assert re.sub(r"\{\{\{payload\.\w+\}\}\}", "", template) == ", "
