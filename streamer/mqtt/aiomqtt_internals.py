"""The private names of aiomqtt 2.5 that are needed to see refusals and losses: all of them, and only here.

aiomqtt takes a publish that the broker refuses for delivered, and does not say when a connection is lost
while an answer is due. docs/decisions/0004-aiomqtt.md says why this is not another library.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

PRIVATE_NAMES = (
    "_client",
    "_connected",
    "_disconnected",
    "_pending_publishes",
    "_on_connect",
    "_on_disconnect",
    "_on_publish",
)
"""tests/mqtt/test_aiomqtt_internals.py fails when a release of aiomqtt no longer has them"""


class ObservedClient(aiomqtt.Client):
    """An aiomqtt client whose acknowledgements and losses can be seen."""

    @property
    def paho(self) -> PahoClient:
        """The client that aiomqtt is built on."""
        return self._client

    @property
    def connecting(self) -> asyncio.Future[Any]:
        """Done when the broker has answered the connection."""
        return self._connected

    @property
    def disconnected(self) -> asyncio.Future[Any]:
        """Done, with the cause as its exception, when the connection is lost."""
        return self._disconnected

    def is_pending(self, mid: int) -> bool:
        """Whether aiomqtt itself waits for the acknowledgement of a message."""
        return mid in self._pending_publishes

    def connected(self, properties: Properties | None) -> None:
        """Called with the properties of the broker's CONNACK."""

    def acknowledged(self, mid: int, reason_code: ReasonCode) -> bool:  # noqa: ARG002  # for subclasses
        """Called with each acknowledgement; True where aiomqtt need not see it."""
        return False

    # The callbacks of paho, typed by aiomqtt as Any.
    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any
    ) -> None:
        if not self.acknowledged(mid, reason_code):
            super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason_code: ReasonCode, properties: Any = None
    ) -> None:
        self.connected(properties)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, *args: Any) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("the connection was closed without an answer"))
        elif not self._connected.cancelled():
            super()._on_disconnect(*args)
