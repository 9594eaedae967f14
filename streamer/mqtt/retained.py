"""Clears what a node has left at a broker: its retained states, and its devices in Home Assistant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress

from streamer.config.schema import MqttSettings
from streamer.errors import ConfigError, StreamerError
from streamer.mqtt.connection import (
    Broker,
    Connection,
    ConnectionLostError,
    MessageRefusedError,
    NoBrokerError,
    passing_identifier,
)
from streamer.mqtt.messages import Message
from streamer.mqtt.topics import Topics

QUIET_S = 1.0
"""a broker sends what it retains at once: so long after the last message there is no more"""
DEADLINE_S = 30.0


async def clear_node(settings: MqttSettings, node: str, discovery_prefixes: Iterable[str]) -> list[str]:
    """Delete every retained message of a node; the topics, in order. It must not run meanwhile.

    Asks the broker itself, so it needs no file of the daemon. Raises StreamerError, or ConfigError.
    """
    broker = Broker(settings, identifier=passing_identifier(), will_topic=None)
    topics = Topics(settings.prefix, node)
    prefixes = tuple(dict.fromkeys(discovery_prefixes))
    filters = [f"{settings.prefix}/{node}/#"]
    for prefix in prefixes:
        filters += [f"{prefix}/+/+/config", f"{prefix}/+/+/+/config"]
    try:
        async with asyncio.timeout(DEADLINE_S), broker.connect() as connection:
            found = await _retained(connection, filters)
            ours = sorted(
                topic
                for topic, payload in found.items()
                if _is_state(topic, topics) or _is_ours(payload, node)
            )
            # Devices first: an entity whose states go is unknown for a moment.
            ours.sort(key=lambda topic: _is_state(topic, topics))
            for topic in ours:
                await connection.send(Message(topic, "", qos=1, retain=True))
            return ours
    except NoBrokerError as failure:
        kind = ConfigError if failure.credentials else StreamerError
        raise kind(f"MQTT: {failure}") from None
    except MessageRefusedError as refusal:
        raise StreamerError(f"MQTT: {refusal}") from None
    except TimeoutError:
        raise StreamerError(f"MQTT: {broker.address} was not done within {DEADLINE_S:.0f} s") from None


async def _retained(connection: Connection, filters: list[str]) -> dict[str, bytes]:
    """What the broker retains under some filters, by topic."""
    found: dict[str, bytes] = {}
    arrived = asyncio.Event()

    async def read() -> None:
        async for incoming in connection.incoming(filters):
            if incoming.retained and incoming.payload:
                found[incoming.topic] = incoming.payload
            arrived.set()

    reading = asyncio.create_task(read(), name="mqtt retained")
    try:
        with suppress(TimeoutError):
            while not reading.done():
                arrived.clear()
                await asyncio.wait_for(arrived.wait(), QUIET_S)
        if reading.done():
            reading.result()
            raise ConnectionLostError("the connection was lost")
    finally:
        reading.cancel()
        await asyncio.wait((reading,))
    return found


def _is_state(topic: str, topics: Topics) -> bool:
    return topic.startswith(f"{topics.prefix}/{topics.node}/")


def _is_ours(payload: bytes, node: str) -> bool:
    """A discovery payload of this node and this program; never another node's or another program's."""
    try:
        config = json.loads(payload)
        origin, ids = config["o"]["name"], config["dev"]["ids"]
        topics = [one["t"] for one in config.get("avty", [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    mine = f"streamer_{node}_"
    by_topic = any(str(topic).endswith(f"/{node}/status") for topic in topics)
    return (
        origin == "streamer"
        and isinstance(ids, list)
        and all(str(one) == f"streamer-{node}" or str(one).startswith(mine) for one in ids)
        # A device trigger has no availability; node `a` with source `b_c` and node `a_b` with `c` look alike.
        and (by_topic or config.get("t", "").split("/")[1:2] == [node])
    )
