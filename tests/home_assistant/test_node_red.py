"""The Node-RED flow of the documentation, walked as Node-RED does: `switch` by `switch`.

Where $STREAMER_NODE_RED names the program `node-red`, it is run there, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from aiomqtt import Topic

from streamer.mqtt.messages import event_message
from streamer.mqtt.topics import Topics
from tests.mosquitto import HOST, Mosquitto, free_port, until
from tests.reports import event

NODE_RED = os.environ.get("STREAMER_NODE_RED")
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


def test_any_broker_takes_it() -> None:
    """Also the embedded one, which speaks MQTT 3.1.1 alone."""
    assert nodes()["streamer-broker"]["protocolVersion"] == "4"


if NODE_RED is not None:

    @pytest.mark.slow
    async def test_it_runs(mosquitto: Mosquitto, tmp_path: Path) -> None:
        """In a real Node-RED: what is critical and what is to notify is written, the rest is not."""
        flow = nodes()
        flow["streamer-broker"]["port"] = str(mosquitto.port)
        (tmp_path / "flows.json").write_text(json.dumps(list(flow.values())), encoding="utf-8")
        command = (str(NODE_RED), "--userDir", str(tmp_path), "--port", str(free_port()), "flows.json")
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)

        def written() -> str:
            return log.read_text(encoding="utf-8")

        try:
            await until(lambda: "Connected to broker" in written())
            async with aiomqtt.Client(HOST, mosquitto.port) as client:
                for name, fields in (
                    ("Rex, 犬", {}),
                    ("not to notify", {"notify": False}),
                    ("late", {"delayed_s": 61.0}),
                    ("Rauch & Feuer", {"priority": "critical", "notify": False, "delayed_s": 600.0}),
                ):
                    message = event_message(event("start"), "home") | {"sound_name": name} | fields
                    topic = Topics("streamer", "home").event("kitchen", "start")
                    await client.publish(topic, json.dumps(message), qos=1)
            await until(lambda: "Rauch & Feuer, " in written())
        finally:
            process.terminate()
            await process.wait()
        assert "Rex, 犬, Kitchen" in written()
        assert not re.search("not to notify|late", written().split("Connected to broker")[1])
        assert "[error]" not in written()
