"""The MQTT sink of a daemon: it follows the configuration, and is exchanged where the broker changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from streamer.config.control import Control
from streamer.config.schema import Config, MqttSettings
from streamer.core.epoch import Epoch
from streamer.core.json_file import JsonFile
from streamer.home_assistant.discovery import Discovery, discovery
from streamer.metrics import Metrics
from streamer.mqtt.claims import Claims
from streamer.mqtt.publisher import Links, MqttSink, no_links
from streamer.mqtt.topics import Topics
from streamer.sinks.exchangeable import ExchangeableSink
from streamer.store.writer import Consumer


class BrokerLink:
    """The MQTT sink, a consumer of the event log; another takes its place where the settings change."""

    def __init__(
        self,
        config: Config,
        directory: Path | None,
        events: Consumer,
        metrics: Metrics,
        address: Mapping[str, object],
        control: Control,
        links: Links = no_links,
        *,
        epoch: Epoch,
    ) -> None:
        """`address` is that of the embedded broker, if there is one; `links` as in `MqttSink`."""
        self._epoch = epoch
        self._metrics = metrics
        self._control = control
        self._links = links
        self._announced = JsonFile(directory, "announced.json")
        self._address = address
        self._events = events
        self._mqtt = self._sink(config)
        self.sink = ExchangeableSink(self._mqtt)
        mqtt = self._settings(config)
        topic = f"{mqtt.prefix}/{config.node}/+/event/#"
        self.subscription = f"mosquitto_sub -h {mqtt.host} -p {mqtt.port or 1883} -v -t '{topic}'"

    def change(self, config: Config, before: Config) -> None:
        """Raises ConfigError, and nothing is changed."""
        if config.mqtt != before.mqtt:
            self._mqtt = self._sink(config)
            self.sink.exchange(self._mqtt)
        else:
            self._mqtt.change(
                config.sources, config.sounds, self._discovery(config), config.names, _expected(config)
            )

    def count_earlier(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Count the events of today before this start: source, sound and onset of each."""
        self._mqtt.count_earlier(events)

    def _sink(self, config: Config) -> MqttSink:
        settings = self._settings(config)
        return MqttSink(
            settings,
            config.node,
            config.sources,
            config.sounds,
            self._events,
            self._metrics,
            control=self._control,
            discovery=self._discovery(config),
            announced=self._announced,
            names=config.names,
            expected=_expected(config),
            links=self._links,
            claims=Claims(Topics(settings.prefix, config.whole_node), config.node, self._epoch),
        )

    def _discovery(self, config: Config) -> Discovery:
        settings = self._settings(config)
        return discovery(
            config,
            Topics(settings.prefix, config.node),
            thresholds=self._control.sounds,
            commands=bool(settings.commands),
        )

    def _settings(self, config: Config) -> MqttSettings:
        return config.mqtt.model_copy(update=self._address)


def _expected(config: Config) -> list[tuple[str, str]]:
    return [(one.source, one.sound) for one in config.expected]
